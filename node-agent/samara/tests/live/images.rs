//! Images: built, pushed, pulled, named, carried in files, removed; and credentials.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use samara_images::Digest;

use crate::machine::{Machine, p1, p2};
use crate::registry::{PASSWORD, Registry, USER};

#[test]
fn the_same_input_builds_the_same_image_and_it_runs() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("www")).unwrap();
    std::fs::write(machine.path("www/page"), "hello").unwrap();
    let build = |name: &str| {
        machine.good(&[
            "build",
            "-t",
            name,
            "--add",
            "./www:/www",
            "-e",
            "A=1",
            "--cmd",
            "cat",
            "--cmd",
            "/www/page",
            &p1("toolbox"),
        ])
    };
    let first = build("example.test/tools:1");
    let page = std::fs::File::options().write(true).open(machine.path("www/page")).unwrap();
    page.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(86_400)).unwrap();
    assert_eq!(build("example.test/tools:2"), first, "a later time is the same image");
    assert!(first.starts_with("sha256:"));
    assert_eq!(machine.good(&["run", "--rm", "--pull=never", "example.test/tools:1"]), "hello");
    let images = machine.good(&["images"]);
    assert_eq!(images.lines().count(), 3, "names by digest only where there is no other: {images}");
    let env = machine.good(&["run", "--rm", "example.test/tools:1", "env"]);
    assert!(env.lines().any(|line| line == "A=1"), "{env}");
    let text = machine.path("text");
    std::fs::write(&text, "no wasm").unwrap();
    assert_eq!(machine.samara(&["build", text.to_str().unwrap()]).code, 125);
}

#[test]
fn an_image_goes_to_a_registry_and_back_with_a_login() {
    let (machine, registry) = (Machine::new(), Registry::start());
    let name = registry.image("team/hello:v1");
    let refused = machine.samara(&["push", &p1("hello"), &name]);
    assert_eq!(refused.code, 125);
    for (user, password) in [(USER, "wrong"), ("nobody", PASSWORD)] {
        let wrong = machine.fed(&["login", "-u", user, "--password-stdin", registry.host()], password.as_bytes());
        assert!(wrong.code == 125 && wrong.err.contains("nothing is kept: the user name or the password"), "{wrong:?}");
    }
    let nobody = machine.fed(&["login", "-u", USER, "--password-stdin", "127.0.0.1:1"], PASSWORD.as_bytes());
    assert!(nobody.code == 125 && nobody.err.contains("could not be asked"), "{nobody:?}");
    assert!(!machine.path("docker/config.json").exists(), "what is refused is not kept");
    let login = machine.fed(&["login", "-u", USER, "--password-stdin", registry.host()], PASSWORD.as_bytes());
    assert_eq!(login.code, 0, "{login:?}");
    let mode = std::fs::metadata(machine.path("docker/config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let pushed = machine.good(&["push", &p1("hello"), &name]);
    let pulled = machine.good(&["pull", &name]);
    assert_eq!(pulled, pushed);
    assert_eq!(machine.good(&["run", "--rm", "--pull=never", &name]), "hello from samara\n");
    let stable = registry.image("other/hello:stable");
    machine.good(&["tag", &name, &stable]);
    machine.good(&["push", &stable]);
    machine.good(&["rmi", &name, &stable]);
    assert_eq!(machine.good(&["images", "-q"]), "");
    assert_eq!(machine.good(&["run", "--rm", &stable]), "hello from samara\n", "pulled because it is missing");
    machine.good(&["logout", registry.host()]);
    machine.good(&["rmi", &stable]);
    assert_eq!(machine.samara(&["pull", "-q", &stable]).code, 125);
}

#[test]
fn a_registry_with_its_own_authority_is_reached_by_every_verb_that_asks_one() {
    let (machine, registry) = (Machine::new(), Registry::secure());
    let name = registry.image("team/hello:v1");
    let login = ["login", "-u", USER, "--password-stdin", registry.host()];
    let stranger = machine.fed(&login, PASSWORD.as_bytes());
    assert!(stranger.code == 125 && stranger.err.contains("could not be asked"), "{stranger:?}");
    let hosts = machine.path("certs.d").join(registry.host());
    std::fs::create_dir_all(&hosts).unwrap();
    let (host, files) = (registry.host(), registry.files().display());
    // The mirror has nothing, and is not whom to log in to.
    let settings = format!(
        "server = 'https://{host}'\nca = '{files}/ca.crt'\nclient = [['{files}/client.cert', '{files}/client.key']]\n\
         [host.'http://127.0.0.1:1']\ncapabilities = ['pull', 'resolve']\n"
    );
    std::fs::write(hosts.join("hosts.toml"), settings).unwrap();
    let set = ["--registry-config-dir", "certs.d"];
    let with = |args: &[&str]| machine.good(&[args, &set].concat());
    let kept = machine.fed(&[&login[..], &set].concat(), PASSWORD.as_bytes());
    assert_eq!(kept.code, 0, "{kept:?}");
    let pushed = with(&["push", &p1("hello"), &name]);
    let unset = machine.samara(&["pull", "-q", &name]);
    assert!(unset.code == 125 && unset.err.contains(&name), "{unset:?}");
    assert_eq!(with(&["pull", "-q", &name]), pushed);
    let gone = || machine.good(&["rmi", &name]);
    gone();
    let run = machine.good(&["run", set[0], set[1], "--rm", &name]);
    assert_eq!(run, "hello from samara\n");
    gone();
    with(&["compile", &name]);
    gone();
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "hello" },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "app", "image": name }] },
    });
    std::fs::write(machine.path("pod.json"), pod.to_string()).unwrap();
    // All of them can be told by the environment.
    let mut play = machine.command(&["kube", "play", "--wait", "pod.json"]);
    let played = play.env("SAMARA_REGISTRY_CONFIG_DIR", machine.path("certs.d")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&played.stdout), "hello from samara\n", "{played:?}");
    let missing = machine.samara(&["pull", "--registry-config-dir", "none", &name]);
    assert!(missing.code == 125 && missing.err.contains("there is no such directory"), "{missing:?}");
}

#[test]
fn a_registry_without_tls_is_reached_where_it_is_said_that_it_has_none() {
    let (machine, registry) = (Machine::new(), Registry::start());
    // By this address it is not known to be of this machine.
    let host = format!("0.0.0.0:{}", registry.port());
    let name = format!("{host}/team/hello:v1");
    let login = ["login", "-u", USER, "--password-stdin", &host];
    let refused = machine.fed(&login, PASSWORD.as_bytes());
    assert!(refused.code == 125 && refused.err.contains("could not be asked"), "{refused:?}");
    let plain = ["--plain-registry", "nas.lan,0.0.0.0"];
    assert_eq!(machine.fed(&[&login[..], &plain].concat(), PASSWORD.as_bytes()).code, 0);
    let pushed = machine.good(&["push", plain[0], plain[1], &p1("hello"), &name]);
    assert_eq!(machine.samara(&["pull", "-q", &name]).code, 125);
    let mut pull = machine.command(&["pull", "-q", &name]);
    let pulled = pull.env("SAMARA_PLAIN_REGISTRY", &host).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&pulled.stdout), pushed, "{pulled:?}");
}

#[test]
fn several_nodes_pull_one_large_image_at_once() {
    let registry = Registry::start();
    let machines: Vec<Machine> = (0..4).map(|_| Machine::new()).collect();
    let name = registry.image("team/large:v1");
    let login = ["login", "-u", USER, "--password-stdin", registry.host()];
    for machine in &machines {
        assert_eq!(machine.fed(&login, PASSWORD.as_bytes()).code, 0);
    }
    // A module with a section of noise.
    let mut noise = vec![0; 20 << 20];
    rand::RngExt::fill(&mut rand::rng(), &mut noise[..]);
    let module = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap();
    let section = [&[4][..], b"pad0", &noise].concat();
    // 20 MiB and a little, as LEB128 in five bytes.
    let size = (0..5).map(|at| (section.len() >> (7 * at)) as u8 & 0x7f | if at < 4 { 0x80 } else { 0 });
    let bytes = [module, vec![0], size.collect(), section].concat();
    let file = machines[0].path("large.wasm");
    std::fs::write(&file, bytes).unwrap();
    let pushed = machines[0].good(&["push", file.to_str().unwrap(), &name]);
    let children: Vec<_> = machines
        .iter()
        .map(|machine| {
            let mut command = machine.command(&["pull", "-q", &name]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (machine, child) in machines.iter().zip(children) {
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), pushed, "{output:?}");
        assert_eq!(machine.good(&["run", "--rm", "--pull=never", &name]), "");
    }
}

#[test]
fn what_a_component_would_not_get_is_said_before_it_is_fetched() {
    let (machine, registry) = (Machine::new(), Registry::start());
    let name = registry.image("team/asks:v1");
    let component = wat::parse_str(r#"(component (import "wasi:http/typos@0.2.0" (instance (export "f" (func)))))"#);
    std::fs::write(machine.path("asks.wasm"), component.as_ref().unwrap()).unwrap();
    let wkg = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/wkg/bin/wkg");
    let mut push = std::process::Command::new(wkg);
    push.args(["oci", "push", "--insecure", registry.host(), &name]).arg(machine.path("asks.wasm"));
    let pushed = push.env("WKG_OCI_USERNAME", USER).env("WKG_OCI_PASSWORD", PASSWORD).output().unwrap();
    assert!(pushed.status.success(), "{pushed:?}");
    registry.lose(&Digest::of(&component.unwrap()));
    machine.fed(&["login", "-u", USER, "--password-stdin", registry.host()], PASSWORD.as_bytes());
    for verb in [&["pull"][..], &["run", "--rm"]] {
        let refused = machine.samara(&[verb, &[&name]].concat());
        let says = "it imports wasi:http/typos@0.2.0, which this node does not have (the nearest it has is wasi:http/types@0.2.12)";
        assert!(refused.code == 125 && refused.err.contains(says), "{refused:?}");
    }
}

#[test]
fn images_are_carried_in_archives_and_directories() {
    let machine = Machine::new();
    machine.good(&["build", "-t", "example.test/hello:1", &p2("hello")]);
    machine.good(&["save", "-o", "hello.tar", "example.test/hello:1"]);
    machine.good(&["save", "--directory", "layout", "example.test/hello:1"]);
    let digest = machine.good(&["images", "-q"]);
    for from in ["hello.tar", "layout"] {
        machine.good(&["rmi", digest.trim()]);
        assert_eq!(machine.good(&["images", "-q"]), "");
        assert_eq!(machine.good(&["load", "-i", from]), "example.test/hello:1\n", "{from}");
        assert_eq!(machine.good(&["images", "-q"]), digest);
    }
    let archive = std::fs::read(machine.path("hello.tar")).unwrap();
    assert_eq!(machine.fed(&["load"], &archive).out, "example.test/hello:1\n");
    assert_eq!(machine.fed(&["load"], &archive[..700]).code, 125);
    let refused = machine.fed(&["load"], b"no archive at all");
    assert!(refused.code == 125 && refused.err.starts_with("samara: load standard input: "), "{refused:?}");
    assert_eq!(refused.err.matches("cannot be read").count(), 1, "a reason is told once: {refused:?}");
    assert_eq!(machine.good(&["run", "--rm", "--pull=never", "example.test/hello:1"]), "hello from samara\n");
}

#[test]
fn an_image_that_a_container_is_made_of_stays() {
    let machine = Machine::new();
    machine.good(&["build", "-t", "example.test/spin:1", &p1("spin-cpu")]);
    machine.good(&["run", "-d", "--name", "spin", "example.test/spin:1"]);
    for args in [&["rmi", "example.test/spin:1"][..], &["rmi", "-f", "example.test/spin:1"]] {
        let refused = machine.samara(args);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains("samara rm -f spin"), "{refused:?}");
    }
    machine.good(&["rm", "-f", "spin"]);
    machine.good(&["rmi", "example.test/spin:1"]);
    assert_eq!(machine.samara(&["rmi", "example.test/spin:1"]).code, 1);
    machine.good(&["rmi", "-f", "example.test/spin:1"]);
}

#[test]
fn a_wasm_file_is_inspected_and_compiled() {
    let machine = Machine::new();
    let http = &machine.json(&["inspect", &p2("http_hello_v1")])[0];
    assert_eq!(
        (&http["kind"], &http["role"], &http["runs"]),
        (&"component".into(), &"http server".into(), &true.into())
    );
    let hello = &machine.json(&["inspect", &p1("hello")])[0];
    assert_eq!(
        (&hello["kind"], &hello["role"], &hello["wasi"]),
        (&"module".into(), &"command".into(), &"preview1".into())
    );
    let module = wat::parse_str(r#"(module (import "env" "fd_wrote" (func)) (func (export "_start")))"#).unwrap();
    std::fs::write(machine.path("odd.wasm"), module).unwrap();
    let odd = &machine.json(&["inspect", "odd.wasm"])[0];
    assert_eq!(odd["runs"], false);
    assert!(odd["refusal"].as_str().unwrap().contains("fd_write of wasi_snapshot_preview1"), "{odd}");
    let get = |report: &serde_json::Value, import: &str| {
        let grants = report["grants"].as_array().unwrap().iter();
        let grant = grants.clone().find(|grant| grant["import"].as_str().unwrap().starts_with(import)).unwrap();
        (grant["given"].as_bool().unwrap(), grant["as"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(get(odd, "env fd_wrote"), (false, String::new()));
    let (given, files) = get(hello, "wasi_snapshot_preview1 fd_write");
    assert!(given && files.contains("writing"), "{hello}");
    let echo = &machine.json(&["inspect", &p2("tcp-echo")])[0];
    let (given, sockets) = get(echo, "wasi:sockets/tcp@");
    assert!(given && sockets.contains("own address"), "{echo}");
    assert!(echo["grants"].as_array().unwrap().iter().all(|grant| grant["given"] == true), "{echo}");
    let table = machine.good(&["inspect", "--format", "table", "odd.wasm"]);
    assert!(table.contains("env fd_wrote  nothing: this node does not have it\n"), "{table}");
    assert!(table.contains("fd_write of wasi_snapshot_preview1"), "why it does not run: {table}");
    assert_eq!(machine.samara(&["inspect", "--format", "table", "no-such-file"]).code, 125);
    assert_eq!(machine.samara(&["compile", "odd.wasm"]).code, 125);
    assert_eq!(machine.good(&["compile", &p1("hello")]).trim(), hello["digest"]);
    assert_ne!(machine.files("root/code").len(), 0);
}
