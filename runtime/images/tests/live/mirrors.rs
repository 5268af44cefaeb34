//! Settings per registry, as containerd keeps them: mirrors, headers, certificates.

use std::path::Path;

use samara_images::{Artifact, Content, Credential, Digest, Pusher, Reference, RegistryConfig};
use tempfile::TempDir;

use crate::registry::Registry;
use crate::script::{Documents, Reply, Script};
use crate::{MODULE, Node, module};

/// `/etc/containerd/certs.d` of a test.
struct Hosts(TempDir);

impl Hosts {
    fn new(registry: &str, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(registry)).unwrap();
        std::fs::write(directory.path().join(registry).join("hosts.toml"), text).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self) -> RegistryConfig {
        RegistryConfig { hosts_dir: Some(self.path().to_owned()), ..RegistryConfig::default() }
    }

    fn node(&self) -> Node {
        Node::trusting(self.config())
    }
}

fn image(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

/// Addresses at which nobody listens, and none of the tests beside this one begins to.
const NOWHERE: [&str; 2] = ["http://127.0.0.1:1", "http://127.0.0.1:2"];

#[tokio::test]
async fn mirrors_are_asked_in_turn_without_the_users_credentials() {
    let served = Documents::of(MODULE);
    let lacks = Script::start(|_| Reply::status(404, "")).await;
    let has = Script::start(move |request| served.answer(request)).await;
    let text = format!(
        "server = '{0}'\n[host.'{0}']\n[host.'http://{1}']\n[host.'http://{2}']\n[host.'http://{2}'.header]\nx-mirror = 'yes'\n",
        NOWHERE[0],
        lacks.address(),
        has.address()
    );
    let hosts = Hosts::new("registry.test", &text);
    let credential = Credential::Basic { username: "user".into(), password: "open sesame".into() };
    hosts.node().puller.pull(&image("registry.test/app:v1"), &[credential], &()).await.unwrap();
    assert_eq!(lacks.asked().len(), 3, "manifest, configuration, module");
    for request in has.asked() {
        assert!(request.target.ends_with("?ns=registry.test"), "{request:?}");
        assert_eq!((request.header("authorization"), request.header("x-mirror")), (None, Some("yes")));
    }
}

#[tokio::test]
async fn a_mirror_that_gives_other_content_is_passed_over() {
    let bytes = module(100_000);
    let mut other = bytes.clone();
    other[50_000] ^= 1;
    let served = Documents::of(&bytes);
    let lie = Documents { layer: other, ..served.clone() };
    let liar = Script::start(move |request| lie.answer(request)).await;
    let origin = Script::start(move |request| served.answer(request)).await;
    let hosts = Hosts::new(origin.address(), &format!("[host.'http://{}']\n", liar.address()));
    let node = hosts.node();
    let image = node.puller.pull(&origin.image(), &[], &()).await.unwrap();
    let Content::Module { path, .. } = image.content else { panic!() };
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert_eq!((liar.fetched(&Digest::of(&bytes)), origin.fetched(&Digest::of(&bytes))), (1, 1));
}

#[tokio::test]
async fn a_failure_says_what_every_place_said() {
    let lacks = Script::start(|_| Reply::status(404, "no such thing")).await;
    let [gone, server] = NOWHERE;
    let text = format!("server = '{server}'\n[host.'http://{}']\n[host.'{gone}']\n", lacks.address());
    let hosts = Hosts::new("_default", &text);
    let error = hosts.node().puller.pull(&image("registry.test/app:v1"), &[], &()).await;
    let error = error.unwrap_err().to_string();
    let mirrors = format!(
        "; mirror {}: not found (404): no such thing; mirror {}: cannot be reached",
        lacks.address(),
        &gone[7..]
    );
    assert!(error.contains("registry registry.test: cannot be reached") && error.contains(&mirrors), "{error}");
}

#[tokio::test]
async fn a_place_is_asked_only_for_what_it_is_there_for() {
    let served = Documents::of(MODULE);
    let same = served.clone();
    let content = Script::start(move |request| served.answer(request)).await;
    let server = Script::start(move |request| same.answer(request)).await;
    let text = format!(
        "server = 'http://{}'\n[host.'http://{}']\ncapabilities = ['pull']\n",
        server.address(),
        content.address()
    );
    let hosts = Hosts::new("registry.test", &text);
    hosts.node().puller.pull(&image("registry.test/app:v1"), &[], &()).await.unwrap();
    assert!(content.asked().iter().all(|it| it.target.contains("/blobs/")), "{:?}", content.asked());
    assert!(server.asked().iter().all(|it| it.target.contains("/manifests/v1")), "{:?}", server.asked());
}

#[tokio::test]
async fn a_registry_that_wants_a_certificate_is_shown_the_one_configured() {
    let registry = Registry::with_client_certificates();
    let files = registry.client_files();
    let (authority, certificate, key) = (files.join("ca.crt"), files.join("client.cert"), files.join("client.key"));
    let (authority, certificate, key) = (authority.display(), certificate.display(), key.display());
    let directory = registry.address().replace(':', "_") + "_";
    let server = format!("server = 'https://{}'\nca = '{authority}'\n", registry.address());
    let with = Hosts::new(&directory, &format!("{server}client = [['{certificate}', '{key}']]\n"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), MODULE).unwrap();
    crate::install_tls();
    let reference = registry.image("app:v1");
    let artifact = Artifact::wasm(file.path()).unwrap();
    Pusher::new(with.config()).push(&reference, &artifact, &Credential::Anonymous).await.unwrap();
    with.node().puller.pull(&reference, &[], &()).await.unwrap();
    let without = Hosts::new(&directory, &server);
    let error = without.node().puller.pull(&reference, &[], &()).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    // Docker's layout: the same by file names alone.
    let dockers = Hosts::new("_default", "");
    let own = dockers.path().join(registry.address());
    std::fs::create_dir(&own).unwrap();
    for name in ["ca.crt", "client.cert", "client.key"] {
        std::fs::copy(files.join(name), own.join(name)).unwrap();
    }
    let config = RegistryConfig { tls: vec![registry.address().to_owned()], ..dockers.config() };
    Node::trusting(config).puller.pull(&reference, &[], &()).await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named_with_their_file() {
    for (text, named) in
        [("[host.'ftp://m.test']", "ftp://m.test"), ("ca = 'no-such.pem'", "no-such.pem"), ("server = ", "hosts.toml")]
    {
        let hosts = Hosts::new("registry.test", text);
        let error = hosts.node().puller.pull(&image("registry.test/app:v1"), &[], &()).await.unwrap_err().to_string();
        assert!(error.contains("cannot be used as configured") && error.contains(named), "{error}");
    }
}
