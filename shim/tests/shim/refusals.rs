//! Bad input: told by name, and nothing is left of the attempt.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use samara_shim_client::ShimError;
use samara_shim_client::cgroup::Cgroups;
use serde_json::json;

use crate::bundle::Container;
use crate::guests;
use crate::node::Node;

async fn refused(node: &Node, container: &Container) -> String {
    let error = node.shim.create(&container.request()).await.expect_err("refused");
    assert!(matches!(error, ShimError::InvalidArgument { .. } | ShimError::Other { .. }), "{error:?}");
    assert!(matches!(node.shim.state(&container.id, "").await, Err(ShimError::NotFound { .. })), "nothing is left");
    let cgroups = Cgroups::detect().expect("cgroups");
    assert!(!cgroups.group(&container.cgroup).expect("path").exists(), "no cgroup is left");
    assert_eq!(fs::read_dir(node.front_dir().join("tasks")).expect("links").count(), 0);
    error.message().to_owned()
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
}

#[tokio::test]
async fn a_program_that_is_a_fifo_and_a_hosts_file_without_end_hold_nobody_up() {
    let node = Node::start().await;
    let mut container = node.container(&guests::trap());
    let module = container.dir.join("module.fifo");
    fifo(&module);
    container.annotation("samara.dev/module", Some(&module.display().to_string()));
    let message = refused(&node, &container).await;
    assert!(message.contains("not a regular file"), "{message}");

    let mut container = Container::with_root(node.home(), &[("/fifo", b"")]).args(&["/fifo"]);
    let mount = json!({"destination": "/fifo", "type": "bind", "source": module, "options": ["bind"]});
    container.config["mounts"] = json!([mount]);
    assert_eq!(refused(&node, &container).await, r#"exec: "/fifo": permission denied"#);

    let mut container = node.container(&guests::say(1, "done\n", 4));
    let hosts = json!({"destination": "/etc/hosts", "type": "bind", "source": "/dev/zero", "options": ["bind", "ro"]});
    container.config["mounts"] = json!([hosts]);
    node.run(&container).await;
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 4);
}

#[tokio::test]
async fn a_cgroup_with_others_in_it_is_refused_and_they_live_on() {
    let node = Node::start().await;
    let missing = Container::with_root(node.home(), &[("/x", b"")]).args(&["/missing"]);
    let good = node.container(&guests::say(1, "done\n", 4));
    for below in ["", "/below"] {
        for (container, says) in [(&missing, "no such file"), (&good, "that are not the container's")] {
            let [own, stranger] = [&container.cgroup, &format!("{}{below}", container.cgroup)]
                .map(|path| Cgroups::detect().expect("cgroups").group(path).expect("path"));
            stranger.make(&serde_json::from_value(json!({})).expect("resources")).expect("made");
            let mut sleep = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
            for tasks in stranger.open_tasks().expect("opened") {
                fs::File::from(tasks).write_all(sleep.id().to_string().as_bytes()).expect("moved");
            }
            let refused = node.shim.create(&container.request()).await;
            let living = sleep.try_wait().expect("a child").is_none();
            sleep.kill().expect("killed");
            sleep.wait().expect("ended");
            assert!(living, "{below:?}, {says}: the stranger was killed");
            let error = refused.expect_err("refused");
            assert!(error.message().contains(says), "{error}");
            assert!(stranger.exists() && own.exists());
            stranger.remove().await.expect("removed");
        }
    }
    node.run(&good).await;
    assert_eq!(node.shim.wait(&good.id, "").await.expect("ended").code, 4, "an empty one is as good as none");
}

#[tokio::test]
async fn a_missing_huge_or_broken_configuration_is_named() {
    let node = Node::start().await;
    let container = node.container(&guests::trap());
    let request = container.request();
    let config = container.bundle().config();
    let create = || node.shim.create(&request);

    fs::remove_file(&config).expect("removed");
    let error = create().await.expect_err("missing");
    assert!(error.message().contains("config.json: No such file"), "{error}");
    for broken in ["", "{", "7", r#"{"ociVersion": 1}"#, "\u{0}"] {
        fs::write(&config, broken).expect("config.json");
        let error = create().await.expect_err("broken");
        assert!(matches!(error, ShimError::InvalidArgument { .. }), "{error:?}");
        assert!(error.message().contains("config.json: not an OCI configuration"), "{error}");
    }
    fs::File::create(&config).and_then(|file| file.set_len(17 << 20)).expect("huge");
    let error = create().await.expect_err("huge");
    assert!(error.message().contains("larger than 16777216 bytes"), "{error}");
    fs::remove_file(&config).expect("removed");
    fifo(&config);
    let error = create().await.expect_err("would wait for ever");
    assert!(error.message().contains("not a regular file"), "{error}");
    fs::remove_file(&config).expect("removed");

    fs::write(&config, container.config.to_string()).expect("config.json");
    create().await.expect("the same id is free after all that");
}

#[tokio::test]
async fn what_is_not_wasm_is_named_with_what_it_is() {
    let node = Node::start().await;
    let root = |bytes: &[u8]| Container::with_root(node.home(), &[("/bin/app", bytes)]).args(&["/bin/app"]);
    let elf = refused(&node, &root(b"\x7fELF\x02")).await;
    assert_eq!(elf, "exec format error: /bin/app is not WebAssembly (an ELF binary)");
    let truncated = refused(&node, &root(&guests::trap()[..60])).await;
    assert!(truncated.starts_with("/bin/app: "), "{truncated}");
    let none = Container::with_root(node.home(), &[("/x", b"")]).args(&["nothing"]);
    assert_eq!(refused(&node, &none).await, r#"exec: "nothing": executable file not found in $PATH"#);
    let unknown = guests::wasm(r#"(module (import "env" "magic" (func)) (func (export "_start")))"#);
    let message = refused(&node, &root(&unknown)).await;
    assert!(message.contains("magic"), "{message}");
}

#[tokio::test]
async fn a_digest_that_does_not_fit_is_refused() {
    let node = Node::start().await;
    let mut container = node.container(&guests::say(1, "x", 0));
    container.annotation("samara.dev/module-digest", Some(&format!("sha256:{}", "0".repeat(64))));
    let message = refused(&node, &container).await;
    assert!(message.contains("its digest is sha256:"), "{message}");
}

#[tokio::test]
async fn a_volume_that_is_not_there_is_named() {
    let node = Node::start().await;
    let mut container = node.container(&guests::trap());
    container.config["mounts"] =
        json!([{"destination": "/data", "type": "bind", "source": "/nowhere/at/all", "options": ["rbind"]}]);
    let message = refused(&node, &container).await;
    assert!(message.contains("bind /nowhere/at/all: No such file"), "{message}");
}

#[tokio::test]
async fn ids_that_are_paths_are_refused() {
    let node = Node::start().await;
    for id in ["", "..", "a/b", "/etc/passwd", &"x".repeat(200)] {
        let mut request = node.container(&guests::trap()).request();
        request.id = id.into();
        let error = node.shim.create(&request).await.expect_err("refused");
        assert!(matches!(error, ShimError::InvalidArgument { .. }), "{error:?}");
    }
}
