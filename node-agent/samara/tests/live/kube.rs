//! Pods without a cluster: `kube play` and `kube down`, and a node on a directory of manifests.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::machine::{Machine, p1, p2};

fn pod(name: &str, containers: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "terminationGracePeriodSeconds": 2, "containers": containers },
    })
}

/// Writes a manifest and gives its name.
fn manifest(machine: &Machine, name: &str, objects: &[Value]) -> String {
    let text: Vec<_> = objects.iter().map(Value::to_string).collect();
    std::fs::write(machine.path(name), text.join("\n---\n")).unwrap();
    name.to_owned()
}

/// Nothing is left: no directory, no process of the node.
fn nothing_is_left(machine: &Machine) {
    machine.until("the node has ended", || !machine.path("run/kube").exists() && !machine.path("root/kube").exists());
}

#[test]
fn a_pod_is_played_looked_at_and_taken_down() {
    let machine = Machine::new();
    let containers = json!([
        { "name": "env", "image": p1("env-dump"), "args": ["--hold"], "env": [{ "name": "A", "value": "b" }] },
        { "name": "spin", "image": p1("spin-cpu"), "resources": { "limits": { "cpu": "100m" } } },
    ]);
    let file = manifest(&machine, "pod.yaml", &[pod("web", containers)]);
    assert_eq!(machine.good(&["kube", "play", &file]), "web\n");
    assert_eq!((machine.status("web-env"), machine.status("web-spin")), ("running".into(), "running".into()));
    machine.until("its output is in the log", || machine.good(&["logs", "web-env"]).contains("A=b"));
    let inspected = &machine.json(&["inspect", "web-env"])[0];
    assert_eq!(inspected["labels"]["io.kubernetes.pod.name"], "web", "{inspected}");
    let twice = machine.samara(&["kube", "play", &file]);
    assert_eq!(twice.code, 125);
    assert!(twice.err.contains("--replace"), "{twice:?}");
    let refused = machine.samara(&["stop", "web-env"]);
    assert!(refused.code == 1 && refused.err.contains("samara kube down"), "{refused:?}");
    machine.good(&["kill", "web-env"]);
    machine.until("its node starts it again", || {
        let again = &machine.json(&["inspect", "web-env"])[0]["state"];
        again["status"] == "running" && again["restarts"] == 1
    });
    machine.good(&["kube", "play", "--replace", &file]);
    assert_eq!(machine.good(&["kube", "down", &file]), "web\n");
    assert_eq!(machine.status("web-env"), "gone");
    let again = machine.samara(&["kube", "down", &file]);
    assert!(again.code == 125 && again.err.contains("samara ps -a"), "{again:?}");
    nothing_is_left(&machine);
}

#[test]
fn what_is_waited_for_gives_its_exit_code() {
    let machine = Machine::new();
    let job = |name: &str, code: &str| {
        let mut pod = pod(name, json!([{ "name": "c", "image": p1("exit-code"), "args": [code] }]));
        pod["spec"]["restartPolicy"] = "Never".into();
        pod
    };
    let file = manifest(&machine, "jobs.yaml", &[job("one", "0"), job("two", "7")]);
    assert_eq!(machine.samara(&["kube", "play", "--wait", &file]).code, 7);
    assert_eq!(machine.status("two-c"), "gone", "what was waited for is removed");
    let hello = json!([{ "name": "c", "image": p1("hello") }]);
    let mut hello = pod("hello", hello);
    hello["spec"]["restartPolicy"] = "Never".into();
    let file = manifest(&machine, "hello.yaml", &[hello]);
    assert_eq!(machine.good(&["kube", "play", "--wait", &file]), "hello from samara\n", "what it wrote is not lost");
    let good = manifest(&machine, "good.yaml", &[job("one", "0")]);
    assert_eq!(machine.samara(&["kube", "play", "--wait", &good]).code, 0);
    assert_eq!(machine.good(&["kube", "play", &good]), "one\n");
    machine.until("it has ended", || machine.status("one-c") == "exited");
    machine.good(&["kube", "down", &good]);
    nothing_is_left(&machine);
}

#[test]
fn what_was_waited_for_is_removed_though_its_output_has_no_place_and_pods_played_together_end_together() {
    let machine = Machine::new();
    let mut hello = pod("hello", json!([{ "name": "c", "image": p1("hello") }]));
    hello["spec"]["restartPolicy"] = "Never".into();
    let file = manifest(&machine, "hello.yaml", &[hello]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let waited = machine.command(&["kube", "play", "--wait", &file]).stdout(full).status().unwrap();
    assert_eq!((waited.code(), machine.status("hello-c").as_str()), (Some(125), "gone"));
    let spin = |name: &str| pod(name, json!([{ "name": "c", "image": p1("spin-cpu") }]));
    let both = manifest(&machine, "both.yaml", &[spin("one"), spin("two")]);
    let one = manifest(&machine, "one.yaml", &[spin("one")]);
    machine.good(&["kube", "play", &both]);
    let replaced = machine.samara(&["kube", "play", "--replace", &one]);
    assert_eq!((replaced.code, replaced.out.as_str()), (0, "one\n"), "{replaced:?}");
    assert!(replaced.err.contains("pod \"two\"") && !replaced.err.contains("\"one\""), "{replaced:?}");
    machine.good(&["kube", "down", &one]);
    nothing_is_left(&machine);
}

#[test]
fn a_deployment_with_config_map_secret_and_claim_comes_from_standard_input() {
    let machine = Machine::new();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "app" },
        "spec": { "replicas": 2, "selector": {}, "template": { "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": [
                { "name": "map", "configMap": { "name": "m" } },
                { "name": "data", "persistentVolumeClaim": { "claimName": "data" } },
            ],
            "initContainers": [{
                "name": "setup", "image": p1("read-write"), "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "containers": [{
                "name": "env", "image": p1("env-dump"), "args": ["--hold"],
                "env": [{ "name": "S", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }],
                "volumeMounts": [{ "name": "map", "mountPath": "/map" }],
            }],
        } } },
    });
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "a": "b" } });
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" }, "stringData": { "k": "v" } });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "app" } });
    let text = [map, secret, service, deployment].map(|object| object.to_string()).join("\n---\n");
    let played = machine.fed(&["kube", "play", "-"], text.as_bytes());
    assert_eq!((played.code, played.out.as_str()), (0, "app-pod-0\napp-pod-1\n"), "{played:?}");
    assert!(played.err.contains("Service app is passed over"), "{played:?}");
    machine.until("the Secret is its environment", || machine.good(&["logs", "app-pod-1-env"]).contains("S=v"));
    assert!(machine.path("root/volumes/data/count").is_file(), "the claim is a named volume");
    assert_eq!(machine.fed(&["kube", "down", "-"], text.as_bytes()).code, 0);
    nothing_is_left(&machine);
}

#[test]
fn what_cannot_be_played_is_named_and_leaves_nothing() {
    let machine = Machine::new();
    std::fs::write(machine.path("broken.yaml"), "kind: Pod\nmetadata: [").unwrap();
    let play = |objects: &[Value]| {
        let file = manifest(&machine, "pod.yaml", objects);
        machine.samara(&["kube", "play", &file])
    };
    let with = |field: &str, value: Value| {
        let mut container = json!({ "name": "c", "image": p1("env-dump"), "args": ["--hold"] });
        container[field] = value;
        pod("web", json!([container]))
    };
    let missing = json!([{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "none", "key": "k" } } }]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = json!([{ "containerPort": 80, "hostPort": port, "hostIP": "127.0.0.1" }]);
    for (said, says) in [
        (machine.samara(&["kube", "play", "nowhere.yaml"]), "read nowhere.yaml"),
        (machine.samara(&["kube", "play", "broken.yaml"]), "broken.yaml: document 1"),
        (play(&[with("image", "./nowhere.wasm".into())]), "image ./nowhere.wasm"),
        (play(&[with("env", missing)]), "web: c: CreateContainerConfigError: configmap \"none\" not found"),
        (play(&[with("securityContext", json!({ "privileged": true }))]), "securityContext.privileged"),
        (play(&[with("ports", ports)]), "hostPort: listen on 127.0.0.1"),
        (play(&[with("name", "a/b".into())]), "spec.containers[0].name: Invalid value"),
        (play(&[with("resources", json!({ "requests": { "memory": "900Ti" } }))]), "OutOfmemory"),
    ] {
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{said:?}");
        assert!(said.err.contains(says), "{says}: {said:?}");
    }
    nothing_is_left(&machine);
}

#[test]
fn pods_outlive_their_node_which_the_next_verb_starts_again() {
    let machine = Machine::new();
    let file = manifest(&machine, "pod.yaml", &[pod("web", json!([{ "name": "spin", "image": p1("spin-cpu") }]))]);
    machine.good(&["kube", "play", &file]);
    let id = machine.json(&["inspect", "web-spin"])[0]["id"].clone();
    kill_node(&machine);
    assert_eq!(machine.status("web-spin"), "running");
    let other = manifest(&machine, "other.yaml", &[pod("other", json!([{ "name": "spin", "image": p1("spin-cpu") }]))]);
    machine.good(&["kube", "play", &other]);
    assert_eq!(machine.json(&["inspect", "web-spin"])[0]["id"], id, "it was adopted");
    kill_node(&machine);
    machine.good(&["kube", "down", &file]);
    assert_eq!((machine.status("web-spin"), machine.status("other-spin")), ("gone".into(), "running".into()));
    machine.good(&["kube", "down", &other]);
    nothing_is_left(&machine);
}

/// SIGKILL to the process that holds the node's lock.
fn kill_node(machine: &Machine) {
    let run = machine.path("run").display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_node = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next() == Some(b"samara-kube") && words.any(|word| word == run.as_bytes())
    };
    let pid = pids.into_iter().find(is_node).expect("the node runs");
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    machine.until("it is gone", || rustix::process::test_kill_process(pid).is_err());
}

#[test]
fn a_wasi_http_pod_answers_at_its_host_port_and_is_ready_by_its_probe() {
    let machine = Machine::new();
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 });
    let port = free_port();
    let container = json!([{
        "name": "http", "image": p2("http_hello_v1"), "readinessProbe": probe, "livenessProbe": probe,
        "ports": [{ "containerPort": 8080, "hostPort": port, "hostIP": "127.0.0.1" }],
    }]);
    let file = manifest(&machine, "web.yaml", &[pod("web", container)]);
    machine.good(&["kube", "play", &file]);
    assert_eq!(machine.good(&["port", "web-http", "8080"]), format!("127.0.0.1:{port}\n"));
    let kept = machine.samara(&["rmi", machine.good(&["images", "-q"]).trim()]);
    assert!(kept.err.contains("web-http is made of it: `samara kube down FILE` first"), "{kept:?}");
    machine.until("it answers", || get(port).is_some_and(|answer| answer.contains("200")));
    machine.until("the probe finds it ready", || {
        let status = machine.files("run/kube/status").into_iter().find(|name| name.ends_with(".json")).unwrap();
        let text = std::fs::read_to_string(machine.path("run/kube/status").join(status)).unwrap_or_default();
        let pod: Value = serde_json::from_str(&text).unwrap_or_default();
        pod["status"]["containerStatuses"][0]["ready"] == true
    });
    machine.good(&["kube", "down", &file]);
    assert_eq!(get(port), None, "the port is closed with the pod");
    nothing_is_left(&machine);
}

/// Below those that the kernel gives to whoever asks for any, so that nobody takes it before it is used.
fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap_or(0);
    let mut ports = std::iter::repeat_with(|| first + TRIED.fetch_add(1, Ordering::Relaxed)).take(1_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok().filter(|length| *length > 0)?;
    Some(answer)
}

/// A node that ends with the test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_node_on_a_directory_of_manifests_runs_what_is_in_it_and_nothing_else() {
    let machine = Machine::new();
    machine.good(&["build", "-t", "localhost/env:1", &p1("env-dump")]);
    std::fs::create_dir(machine.path("manifests")).unwrap();
    std::fs::write(machine.path("kubelet.yaml"), CONFIG).unwrap();
    let put = |value: &str| {
        let container = json!([{
            "name": "env", "image": "localhost/env:1", "args": ["--hold"], "env": [{ "name": "A", "value": value }],
        }]);
        std::fs::write(machine.path("pod.tmp"), pod("web", container).to_string()).unwrap();
        std::fs::rename(machine.path("pod.tmp"), machine.path("manifests/pod.yaml")).unwrap();
    };
    put("one");
    let dirs = ["--root-dir=root", "--run-dir=run", "--log-dir=log", "--container-log-dir=links"];
    let args = [&["node", "--config=kubelet.yaml", "--pod-manifest-path=manifests", "--node-name=box"], &dirs[..]];
    let mut command = machine.command(&args.concat());
    command.env_remove("KUBECONFIG").stderr(std::fs::File::create(machine.path("node.log")).unwrap());
    let node = Node(command.stdout(Stdio::null()).spawn().unwrap());
    let logged = |text: &str| {
        let dirs = machine.files("log");
        let log = |dir: &String| std::fs::read_to_string(machine.path("log").join(dir).join("env/0.log"));
        dirs.iter().any(|dir| dir.starts_with("default_web-box_") && log(dir).is_ok_and(|log| log.contains(text)))
    };
    machine.until("it runs", || logged("A=one"));
    put("two");
    machine.until("it runs as it was changed", || logged("A=two"));
    machine.until("the one before is gone", || machine.files("run/bundles").len() == 1 && !logged("A=one"));
    std::fs::remove_file(machine.path("manifests/pod.yaml")).unwrap();
    machine
        .until("nothing is left of it", || machine.files("run/bundles").is_empty() && machine.files("log").is_empty());
    drop(node);
    let log = std::fs::read_to_string(machine.path("node.log")).unwrap();
    assert!(log.contains("stopping") && !log.contains('\x1b'), "no colour in a file: {log}");
    assert_eq!(machine.files("run/fronts"), [""; 0], "a node without pods leaves no front");
    samara_agent::volumes::remove_tree(&machine.path("run")).unwrap();
}

const CONFIG: &str = "
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
healthzPort: 0
fileCheckFrequency: 1s
evictionHard: {memory.available: 10Mi}
";
