//! Every form of image, pushed to the real registry and pulled again.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use samara_images::{
    Artifact, Content, Credential, Digest, ImageConfig, Progress, ProgressEvent, PullCause, Pusher, Reference, Refusal,
    RegistryFailure, Retry, RootfsBuilder, WasmKind,
};

use crate::registry::Registry;
use crate::{COMPONENT, MODULE, Node, module};

async fn push(registry: &Registry, name: &str, artifact: &Artifact) -> (Reference, Digest) {
    crate::install_tls();
    let reference = registry.image(name);
    let pusher = Pusher::new(registry.config());
    let digest = pusher.push(&reference, artifact, &Credential::Anonymous, &()).await.unwrap();
    (reference, digest)
}

/// An artifact, and the file that it names, which has to stay until it is pushed.
struct Wasm(Artifact, #[expect(dead_code, reason = "it is removed with its holder")] tempfile::NamedTempFile);

impl Deref for Wasm {
    type Target = Artifact;

    fn deref(&self) -> &Artifact {
        &self.0
    }
}

fn wasm(bytes: &[u8]) -> Wasm {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Wasm(Artifact::wasm(file.path()).unwrap(), file)
}

#[tokio::test]
async fn a_module_comes_back_as_it_went() {
    let registry = Registry::start();
    let bytes = module(300_000);
    let (reference, digest) = push(&registry, "team/app:v1", &wasm(&bytes)).await;
    let node = Node::new();
    let image = node.puller.pull(&reference, &[], &()).await.unwrap();
    assert_eq!((&image.digest, &image.reference), (&digest, &reference));
    assert_eq!(image.config, ImageConfig::default());
    let Content::Module { path, digest, kind } = &image.content else { panic!("{image:?}") };
    assert_eq!((std::fs::read(path).unwrap(), digest), (bytes.clone(), &Digest::of(&bytes)));
    assert_eq!(*kind, WasmKind::Module);
    assert!(image.size > 300_000 && image.size < 301_000);
    assert_eq!(node.store().get(&reference).unwrap(), Some(image.clone()));
    let pinned = node.store().get(&image.pinned()).unwrap().unwrap();
    assert_eq!(pinned.digest, image.digest);
}

#[tokio::test]
async fn the_same_input_makes_the_same_image() {
    let registry = Registry::start();
    let (_, first) = push(&registry, "a:1", &wasm(MODULE)).await;
    let (_, second) = push(&registry, "b:1", &wasm(MODULE)).await;
    assert_eq!(first, second);
    let root = || RootfsBuilder::new().bytes("/b", "2", 0o644).unwrap().bytes("/a", "1", 0o755).unwrap();
    assert_eq!(root().build().unwrap().digest(), root().build().unwrap().digest());
}

#[tokio::test]
async fn a_root_file_system_comes_back_with_its_configuration() {
    let registry = Registry::start();
    let config = ImageConfig {
        entrypoint: vec!["/bin/app".into()],
        cmd: vec!["serve".into()],
        env: vec!["PATH=/bin".into()],
        working_dir: "/srv".into(),
        user: "65532".into(),
        stop_signal: "SIGINT".into(),
        volumes: vec!["/data".into()],
        exposed_ports: vec!["8080/tcp".into()],
        labels: [("a".to_owned(), "b".to_owned())].into(),
    };
    let artifact = RootfsBuilder::new()
        .config(config.clone())
        .bytes("/bin/toolbox", COMPONENT, 0o755)
        .unwrap()
        .link("/bin/app", "toolbox")
        .unwrap()
        .link("/app", "/bin/app")
        .unwrap()
        .directory("/srv", 0o1777)
        .unwrap();
    let (reference, _) = push(&registry, "root:v1", &artifact.build().unwrap()).await;
    let node = Node::new();
    let image = node.puller.pull(&reference, &[], &()).await.unwrap();
    assert_eq!(image.config, config);
    let Content::Rootfs { layers } = &image.content else { panic!("{image:?}") };
    let [layer] = layers.as_slice() else { panic!("{layers:?}") };
    assert_eq!(std::fs::metadata(layer.join("srv")).unwrap().permissions().mode() & 0o7777, 0o1777);
    for path in ["/bin/app", "bin/toolbox", "/app", "/srv/../app", "//bin/./app"] {
        let mut bytes = Vec::new();
        node.store().open_in_image(&image, path).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, COMPONENT, "{path}");
    }
    for path in ["/bin", "/none", "/bin/app/x", "", "/../../../../../../etc/hostname"] {
        assert!(node.store().open_in_image(&image, path).unwrap().is_none(), "{path}");
    }
}

#[tokio::test]
async fn a_directory_becomes_an_image_and_hostile_names_do_not() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("bin")).unwrap();
    std::fs::write(directory.path().join("bin/app.wasm"), MODULE).unwrap();
    std::os::unix::fs::symlink("app.wasm", directory.path().join("bin/app")).unwrap();
    let registry = Registry::start();
    let artifact = RootfsBuilder::new().tree("/", directory.path()).unwrap().build().unwrap();
    let (reference, _) = push(&registry, "tree:v1", &artifact).await;
    let node = Node::new();
    let image = node.puller.pull(&reference, &[], &()).await.unwrap();
    assert!(node.store().open_in_image(&image, "/bin/app").unwrap().is_some());
    for path in ["relative", "/a/../b", "/", "//a", "/a/", "/a\0b"] {
        assert!(RootfsBuilder::new().bytes(path, "x", 0o644).is_err(), "{path:?}");
    }
    let root = RootfsBuilder::new().bytes("/a", "x", 0o644).unwrap();
    assert!(root.clone().bytes("/a", "y", 0o644).is_err());
    assert!(root.bytes("/a/b", "y", 0o644).is_err());
}

#[tokio::test]
async fn tls_is_spoken_and_an_unknown_authority_is_named() {
    let registry = Registry::with_tls();
    let (reference, digest) = push(&registry, "app:v1", &wasm(MODULE)).await;
    let image = Node::trusting(registry.config()).puller.pull(&reference, &[], &()).await.unwrap();
    assert_eq!(image.digest, digest);
    let stranger = samara_images::RegistryConfig { authorities: Vec::new(), ..registry.config() };
    let error = Node::trusting(stranger).puller.pull(&reference, &[], &()).await.unwrap_err();
    let PullCause::Registry(cause) = &error.cause else { panic!("{error}") };
    assert!(matches!(cause.failure, RegistryFailure::Unreachable(_)), "{error}");
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_told_so() {
    let registry = Registry::start();
    push(&registry, "app:v1", &wasm(MODULE)).await;
    let node = Node::new();
    for name in ["app:v2", "other:v1"] {
        let error = node.puller.pull(&registry.image(name), &[], &()).await.unwrap_err();
        let PullCause::Registry(cause) = &error.cause else { panic!("{error}") };
        assert!(matches!(cause.failure, RegistryFailure::NotFound(_)), "{error}");
        assert_eq!(error.retry(), Retry::Later(None));
        assert!(error.to_string().contains(&format!("\"{}/{name}\"", registry.address())), "{error}");
    }
    assert_eq!(node.count(), (0, 0, 0));
}

#[tokio::test]
async fn an_image_for_a_processor_is_refused_before_its_layers_come() {
    let registry = Registry::start();
    let root = RootfsBuilder::new().platform("linux", "amd64").bytes("/bin/sh", "\x7fELF", 0o755).unwrap();
    let (reference, _) = push(&registry, "busybox:1", &root.build().unwrap()).await;
    let node = Node::new();
    let error = node.puller.pull(&reference, &[], &()).await.unwrap_err();
    assert!(matches!(&error.cause, PullCause::Refused(Refusal::Platform { platform }) if platform == "linux/amd64"));
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(
        error.to_string(),
        format!("failed to pull image \"{reference}\": it is for linux/amd64, not WebAssembly"),
    );
    assert_eq!(node.count(), (0, 0, 0));
}

#[tokio::test]
async fn a_tag_that_moved_is_followed_and_the_old_image_stays_under_its_digest() {
    let registry = Registry::start();
    let (reference, old) = push(&registry, "app:v1", &wasm(&module(1000))).await;
    let node = Node::new();
    node.puller.pull(&reference, &[], &()).await.unwrap();
    let (_, new) = push(&registry, "app:v1", &wasm(&module(2000))).await;
    assert_eq!(node.store().get(&reference).unwrap().unwrap().digest, old);
    node.puller.pull(&reference, &[], &()).await.unwrap();
    assert_eq!(node.store().get(&reference).unwrap().unwrap().digest, new);
    assert_eq!(node.store().get(&reference.at(old.clone())).unwrap().unwrap().digest, old);
    let listed: BTreeSet<Digest> = node.store().list().unwrap().into_iter().map(|image| image.digest).collect();
    assert_eq!(listed, BTreeSet::from([old, new]));
}

#[tokio::test]
async fn a_pin_is_pulled_by_its_digest_whatever_the_tag_says() {
    let registry = Registry::start();
    let (reference, old) = push(&registry, "app:v1", &wasm(&module(1000))).await;
    push(&registry, "app:v1", &wasm(&module(2000))).await;
    let both = Reference::parse(&format!("{reference}@{old}")).unwrap();
    let node = Node::new();
    assert_eq!(node.puller.pull(&both, &[], &()).await.unwrap().digest, old);
    let missing = reference.at(Digest::of(b"nothing"));
    let error = node.puller.pull(&missing, &[], &()).await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}

#[tokio::test]
async fn a_registry_that_is_gone_is_named_with_the_cause() {
    let reference = {
        let registry = Registry::start();
        push(&registry, "app:v1", &wasm(MODULE)).await.0
    };
    let error = Node::new().puller.pull(&reference, &[], &()).await.unwrap_err();
    let PullCause::Registry(cause) = &error.cause else { panic!("{error}") };
    assert!(matches!(cause.failure, RegistryFailure::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn damage_in_the_registry_is_found() {
    let registry = Registry::start();
    let bytes = module(5000);
    let (reference, _) = push(&registry, "app:v1", &wasm(&bytes)).await;
    let mut damaged = bytes.clone();
    damaged[3000] ^= 1;
    std::fs::write(registry.blob_file(&Digest::of(&bytes)), &damaged).unwrap();
    let node = Node::new();
    let error = node.puller.pull(&reference, &[], &()).await.unwrap_err();
    assert!(matches!(&error.cause, PullCause::Digest { expected, .. } if *expected == Digest::of(&bytes)), "{error}");
    assert_eq!(node.store().get(&reference).unwrap(), None);
}

#[tokio::test]
async fn progress_is_told_of_what_is_sent_and_of_what_is_fetched() {
    /// The layer's, in bytes.
    #[derive(Default)]
    struct Heard(Mutex<Vec<u64>>);
    impl Progress for Heard {
        fn report(&self, event: ProgressEvent<'_>) {
            match event {
                ProgressEvent::Fetching { fetched: moved, size: 500_000, .. }
                | ProgressEvent::Sending { sent: moved, size: 500_000, .. } => self.0.lock().unwrap().push(moved),
                ProgressEvent::Resolved { .. }
                | ProgressEvent::Fetching { .. }
                | ProgressEvent::Sending { .. }
                | ProgressEvent::Unpacking { .. }
                | ProgressEvent::Unpacked { .. } => {}
            }
        }
    }
    let registry = Registry::start();
    let (reference, artifact) = (registry.image("app:v1"), wasm(&module(500_000)));
    let pusher = Pusher::new(registry.config());
    let [sent, there, fetched] = [Heard::default(), Heard::default(), Heard::default()];
    crate::install_tls();
    pusher.push(&reference, &artifact, &Credential::Anonymous, &sent).await.unwrap();
    pusher.push(&reference, &artifact, &Credential::Anonymous, &there).await.unwrap();
    Node::new().puller.pull(&reference, &[], &fetched).await.unwrap();
    for heard in [sent, fetched] {
        let heard = heard.0.into_inner().unwrap();
        assert_eq!((heard.first(), heard.last()), (Some(&0), Some(&500_000)));
        assert!(heard.is_sorted(), "{heard:?}");
    }
    assert_eq!(there.0.into_inner().unwrap(), [500_000]);
}
