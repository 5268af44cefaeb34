//! Whole bundles to whole outlines.

use serde_json::{Value, json};

use super::*;

const HOST: Host = Host { cpus: 4, master: Master::Agent };

fn decide(config: Value, rootfs: &[RootMount], standard: &Standard) -> Result<Outline, OutlineError> {
    let spec: Spec = serde_json::from_value(config).expect("config.json");
    Outline::of(&spec, Path::new("/run/bundle"), rootfs, standard, &HOST)
}

fn minimal() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["/app.wasm"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut config = minimal();
    let mut at = &mut config;
    for key in path.split('/') {
        at = &mut at[key];
    }
    *at = value;
    config
}

fn refused(config: Value) -> String {
    decide(config, &[], &Standard::default()).expect_err("refused").to_string()
}

#[test]
fn a_pod_of_the_agent_is_decided_whole() {
    let config = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "web-0",
        "process": {
            "args": ["/app.wasm", "--flag"],
            "env": ["PATH=/bin", "A=1"],
            "cwd": "/srv",
            "user": {"uid": 1000, "gid": 2000, "additionalGids": [3000]},
            "noNewPrivileges": true,
            "oomScoreAdj": 999,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/etc/hosts", "type": "bind", "source": "/pods/1/hosts", "options": ["rbind", "ro"]},
            {"destination": "/cache", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "noexec"]},
        ],
        "annotations": {
            "samara.dev/module": "/images/app.wasm",
            "samara.dev/module-digest": format!("sha256:{}", "a".repeat(64)),
            "samara.dev/pod-ips": "10.0.0.7,fd00::7",
            "samara.dev/pod-loopback": "127.7.0.1",
            "samara.dev/http-port": "9000",
            "samara.dev/termination-grace-period-seconds": "5",
            "samara.dev/dns-servers": "10.96.0.10",
            "samara.dev/dns-searches": "default.svc.cluster.local,svc.cluster.local",
            "samara.dev/pod-resources": r#"{"cpu": {"shares": 512}}"#,
            "samara.dev/guest.epochs": "on",
            "samara.dev/guest.http-reuse": "100",
        },
        "linux": {
            "cgroupsPath": "/kubepods/pod1/c1",
            "resources": {"memory": {"limit": 67108864}, "cpu": {"quota": 150000, "period": 100000}},
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "namespaces": [
                {"type": "network", "path": "/run/netns/pods"},
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"},
            ],
        },
    });
    let log = "cri:///log/0.log?max-size=100";
    let standard = Standard { stdout: log.into(), stderr: log.into(), ..Standard::default() };
    let outline = decide(config, &[], &standard).expect("decided");
    let expected = json!({
        "root": {"Directory": {"path": "/run/bundle/rootfs", "make": true}},
        "read_only_root": true,
        "mounts": [
            {
                "destination": "/etc/hosts",
                "source": {"Bind": {"path": "/pods/1/hosts", "recursive": true, "propagation": "Private"}},
                "attributes": {
                    "read_only": true, "nosuid": false, "noexec": false, "noatime": false, "recursive": false,
                },
            },
            {
                "destination": "/cache",
                "source": {"Tmpfs": {"options": [["size", "1m"]]}},
                "attributes": {
                    "read_only": false, "nosuid": false, "noexec": true, "noatime": false, "recursive": false,
                },
            },
        ],
        "namespaces": {"network": {"Join": "/run/netns/pods"}, "pid": "New", "uts": "New", "ipc": "New", "cgroup": "Host"},
        "hostname": "web-0",
        "domainname": null,
        "sysctls": {"net/ipv4/ip_unprivileged_port_start": "0"},
        "hooks": {"created": [], "started": [], "deleted": []},
        "cgroup": {
            "path": "/kubepods/pod1/c1",
            "resources": {"memory": {"limit": 67108864}, "cpu": {"quota": 150000, "period": 100000}},
            "parent_resources": {"cpu": {"shares": 512}},
        },
        "process": {
            "identity": {
                "uid": 1000, "gid": 2000, "additional_gids": [3000], "umask": null, "capabilities": null,
                "no_new_privileges": true, "rlimits": [], "oom_score_adj": 999, "seccomp": null,
                "apparmor_profile": null, "selinux_label": null,
            },
            "guest": {
                "args": ["/app.wasm", "--flag"],
                "env": ["PATH=/bin", "A=1"],
                "cwd": "/srv",
                "memory_limit": 67108864,
                "cpus": 2,
                "network": {
                    "pod_ips": ["10.0.0.7", "fd00::7"],
                    "loopback": "127.7.0.1",
                    "dns_servers": ["10.96.0.10:53"],
                    "dns_searches": ["default.svc.cluster.local", "svc.cluster.local"],
                    "dns_options": [],
                    "hosts": [],
                },
                "http": {
                    "port": 9000, "request_timeout_seconds": 60, "grace_period_seconds": 5,
                    "reuse": 100, "max_body": null, "connections": 0,
                },
                "switches": {"samara.dev/guest.epochs": "on", "samara.dev/guest.http-reuse": "100"},
            },
            "wasm": {"Module": {"path": "/images/app.wasm", "digest": format!("sha256:{}", "a".repeat(64))}},
            "stdio": {
                "stdin": null,
                "stdout": "cri:///log/0.log?max-files=5&max-size=100",
                "stderr": "cri:///log/0.log?max-files=5&max-size=100",
                "terminal": false,
            },
        },
        "ignored": [],
    });
    assert_eq!(serde_json::to_value(&outline).expect("outline"), expected);
}

#[test]
fn the_least_there_can_be_has_defaults() {
    let outline = decide(minimal(), &[], &Standard::default()).expect("decided");
    assert_eq!(outline.cgroup, None);
    assert_eq!(outline.namespaces, NamespacesOutline::default());
    assert_eq!((outline.process.guest.cpus, outline.process.guest.memory_limit), (4, None));
    let http = &outline.process.guest.http;
    assert_eq!((http.port, http.reuse, http.max_body), (8080, 1, None));
    let Wasm::InRoot { candidates, digest: None } = outline.process.wasm else { panic!("not in the root") };
    assert_eq!(candidates.paths, [Path::new("/app.wasm")]);
}

#[test]
fn an_http_guest_has_the_limits_of_its_annotations() {
    let http = |key: &str, value: &str| {
        let outline = decide(with("annotations", json!({key: value})), &[], &Standard::default());
        outline.map(|outline| outline.process.guest.http).map_err(|error| error.to_string())
    };
    assert_eq!(http("samara.dev/guest.http-max-body-bytes", "1048576").expect("decided").max_body, Some(1 << 20));
    assert_eq!(http("samara.dev/guest.http-connections", "10").expect("decided").connections, 10);
    let error = http("samara.dev/guest.http-reuse", "many").expect_err("refused");
    assert!(error.contains("samara.dev/guest.http-reuse") && error.contains("many"), "{error}");
}

#[test]
fn a_name_is_given_only_to_a_namespace_of_its_own() {
    let name = |namespaces: Value| {
        let mut config = with("hostname", json!("pod"));
        config["linux"] = json!({"namespaces": namespaces});
        decide(config, &[], &Standard::default()).expect("decided").hostname
    };
    assert_eq!(name(json!([{"type": "uts"}])), Some("pod".into()));
    assert_eq!(name(json!([{"type": "uts", "path": "/proc/7/ns/uts"}])), None);
    assert_eq!(name(json!([])), None);
}

#[test]
fn the_guests_own_port_wins_unless_it_is_none() {
    let port = |env: Value| {
        let outline = decide(with("process/env", env), &[], &Standard::default()).expect("decided");
        outline.process.guest.http.port
    };
    assert_eq!(port(json!(["PORT=80", "PORT=81"])), 81);
    assert_eq!(port(json!(["PORT=tcp://10.0.0.1:80"])), 8080);
    assert_eq!(port(json!(["PORT=0"])), 8080);
}

#[test]
fn a_name_without_slash_is_looked_for_in_path() {
    let paths = |args: Value, env: Value| {
        let mut config = with("process/args", args);
        config["process"]["env"] = env;
        config["process"]["cwd"] = json!("/work");
        match decide(config, &[], &Standard::default()).expect("decided").process.wasm {
            Wasm::InRoot { candidates, .. } => candidates.paths,
            other @ (Wasm::Module { .. } | Wasm::Pause) => panic!("{other:?}"),
        }
    };
    assert_eq!(paths(json!(["ls"]), json!(["PATH=/a::b"])), ["/a/ls", "/work/ls", "/work/b/ls"].map(PathBuf::from));
    assert_eq!(paths(json!(["./ls"]), json!([])), [PathBuf::from("/work/./ls")]);
    assert_eq!(paths(json!(["ls"]), json!([])).len(), 6);
}

#[test]
fn kubernetes_sandbox_container_waits() {
    let config = with("annotations", json!({"io.kubernetes.cri.container-type": "sandbox"}));
    let outline = decide(config, &[], &Standard::default()).expect("decided");
    assert_eq!(outline.process.wasm, Wasm::Pause);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let table = [
        (with("process", Value::Null), "config.json: process is missing"),
        (with("root", Value::Null), "config.json: root is missing"),
        (with("process/args", json!([])), "config.json: process.args is missing"),
        (with("process/args", json!([""])), "config.json: process.args is missing"),
        (with("linux", json!({"namespaces": [{"type": "user"}]})), "config.json: a user namespace is not supported"),
        (
            with("linux", json!({"namespaces": [{"type": "network", "path": "netns"}]})),
            r#"config.json: linux.namespaces[].path: "netns" is not absolute"#,
        ),
        (
            with("linux", json!({"cgroupsPath": "/a/../.."})),
            r#"config.json: linux.cgroupsPath: "/a/../.." leads upwards"#,
        ),
        (
            with("annotations", json!({"samara.dev/http-port": "70000"})),
            r#"config.json: samara.dev/http-port: "70000" is not a number in range"#,
        ),
        (
            with("annotations", json!({"samara.dev/pod-ips": "10.0.0.1,x"})),
            r#"config.json: samara.dev/pod-ips: "x" is not a list of addresses"#,
        ),
        (
            with("annotations", json!({"samara.dev/module": "app.wasm"})),
            r#"config.json: samara.dev/module: "app.wasm" is not an absolute path"#,
        ),
        (
            with("annotations", json!({"samara.dev/module-digest": "sha256:../x"})),
            r#"config.json: samara.dev/module-digest: "sha256:../x" is not a sha256 digest"#,
        ),
    ];
    for (config, message) in table {
        assert_eq!(refused(config), message);
    }
}

#[test]
fn streams_that_make_no_sense_are_refused() {
    let refused = |standard: Standard| decide(minimal(), &[], &standard).expect_err("refused").to_string();
    let stdin = Standard { stdin: "cri:///x".into(), ..Standard::default() };
    assert_eq!(refused(stdin), r#"config.json: stdin: "cri:///x" is not a fifo"#);
    let stdout = Standard { stdout: "http://x".into(), ..Standard::default() };
    assert_eq!(refused(stdout), r#"output "http://x": unknown scheme"#);
}

#[test]
fn an_exec_has_its_own_process_and_the_containers_limits() {
    let mut config = minimal();
    config["linux"] = json!({"resources": {"memory": {"limit": 100}}});
    let spec: Spec = serde_json::from_value(config).expect("config.json");
    let process = json!({"args": ["cat", "/x"], "cwd": "/", "user": {"uid": 5, "gid": 6}, "env": ["PATH=/bin"]});
    let process: Process = serde_json::from_value(process).expect("process");
    let outline = ProcessOutline::exec(&spec, &process, &Standard::default(), &HOST).expect("decided");
    assert_eq!((outline.identity.uid, outline.guest.memory_limit), (5, Some(100)));
    assert_eq!(outline.guest.args, ["cat", "/x"]);
}

#[test]
fn what_would_make_it_another_container_is_refused_by_name() {
    for (path, field, value) in [
        ("linux", "linux.intelRdt", json!({"intelRdt": {"closID": "a"}})),
        ("linux", "linux.personality", json!({"personality": {"domain": "LINUX32"}})),
        ("linux", "linux.timeOffsets", json!({"timeOffsets": {"monotonic": {"secs": 1}}})),
        ("linux", "linux.uidMappings", json!({"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]})),
        ("process/ioPriority", "process.ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7})),
        ("process/scheduler", "process.scheduler", json!({"policy": "SCHED_FIFO"})),
    ] {
        assert_eq!(refused(with(path, value)), format!("config.json: {field} is not supported"));
    }
    let odd = with("linux", json!({"rootfsPropagation": "sideways"}));
    assert_eq!(refused(odd), r#"config.json: linux.rootfsPropagation: "sideways" is no propagation"#);
}

#[test]
fn an_exec_is_refused_what_a_first_process_is_refused() {
    let spec: Spec = serde_json::from_value(minimal()).expect("config.json");
    for (field, value) in [
        ("scheduler", json!({"policy": "SCHED_BATCH"})),
        ("ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0})),
        ("execCPUAffinity", json!({"initial": "0", "final": "0"})),
    ] {
        let mut process = json!({"args": ["cat"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        process[field] = value;
        let process: Process = serde_json::from_value(process).expect("process");
        let error = ProcessOutline::exec(&spec, &process, &Standard::default(), &HOST).expect_err(field);
        assert_eq!(error.to_string(), format!("config.json: process.{field} is not supported"));
    }
}

#[test]
fn what_privileged_pods_and_docker_ask_for_means_nothing_to_a_guest() {
    let device = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    let linux = json!({
        "devices": device,
        "maskedPaths": ["/proc/kcore", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys"],
        "rootfsPropagation": "rslave",
    });
    let outline = decide(with("linux", linux), &[], &Standard::default()).expect("decided");
    let fields = ["linux.devices", "linux.maskedPaths", "linux.readonlyPaths", "linux.rootfsPropagation"];
    assert_eq!(outline.ignored, fields);
}

#[test]
fn a_path_that_would_not_be_hidden_is_refused() {
    let reason = "is no file of the kernel's, and would not be hidden";
    for list in ["maskedPaths", "readonlyPaths"] {
        for path in ["/etc/secret", "/proc/../etc", "/proc/bound/x", "/proc"] {
            let mut config = with("linux", json!({list: [path]}));
            config["mounts"] = json!([{"destination": "/proc/bound", "type": "bind", "source": "/proc"}]);
            assert_eq!(refused(config), format!("config.json: linux.{list}: {path:?} {reason}"));
        }
    }
}

#[test]
fn a_pod_of_containerds_cannot_name_what_is_the_agents_to_name() {
    let host = Host { master: Master::Containerd, ..HOST };
    let decide = |key: &str, value: &str| {
        let spec: Spec = serde_json::from_value(with("annotations", json!({key: value}))).expect("config.json");
        Outline::of(&spec, Path::new("/run/bundle"), &[], &Standard::default(), &host).map(drop)
    };
    for (key, value) in [
        ("samara.dev/module", "/var/lib/other/secret.wasm"),
        ("samara.dev/module-digest", &format!("sha256:{}", "a".repeat(64))),
        ("samara.dev/pod-ips", "10.0.0.9"),
        ("samara.dev/pod-loopback", "127.0.0.1"),
        ("samara.dev/pod-resources", "{}"),
    ] {
        let error = decide(key, value).expect_err(key);
        assert_eq!(error.to_string(), format!("config.json: {key} is for the node agent's containers only"));
    }
    for (key, value) in [("samara.dev/http-port", "80"), ("samara.dev/guest.http-reuse", "10"), ("other", "x")] {
        assert_eq!(decide(key, value), Ok(()), "{key}");
    }
}
