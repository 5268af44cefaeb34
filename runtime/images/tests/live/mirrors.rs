//! Settings per registry, as containerd keeps them: mirrors, headers, certificates.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use samara_images::{
    Artifact, Content, Credential, Digest, PullCause, PullerConfig, Pusher, Reference, Refusal, RegistryConfig, Retry,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::credentials::TokenService;
use crate::registry::{PASSWORD, Registry, USER};
use crate::script::{Documents, Reply, Script};
use crate::{MODULE, Node, module};

/// `/etc/containerd/certs.d` of a test.
struct Hosts(TempDir);

impl Hosts {
    fn new(registry: &str, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(registry)).unwrap();
        fs::write(directory.path().join(registry).join("hosts.toml"), text).unwrap();
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

fn right() -> Credential {
    Credential::Basic { username: USER.into(), password: PASSWORD.into() }
}

#[tokio::test]
async fn mirrors_are_asked_in_turn_without_the_users_credentials() {
    let (lacks, has) = (Registry::start(), Registry::with_basic_auth());
    has.push("app:v1", MODULE, &right()).await;
    let hosts = |header: &str| {
        let [gone, mirror] = [&lacks, &has].map(Registry::address);
        let places = format!("[host.'{0}']\n[host.'http://{gone}']\n[host.'http://{mirror}']\n", NOWHERE[0]);
        Hosts::new("registry.test", &format!("server = '{}'\n{places}{header}", NOWHERE[1]))
    };
    // They would be right there too.
    let reference = image("registry.test/app:v1");
    let error = hosts("").node().puller.pull(&reference, &[right()], &()).await.unwrap_err().to_string();
    let (_, mirror) = error.split_once(&format!("mirror {}: ", has.address())).unwrap_or_else(|| panic!("{error}"));
    assert!(mirror.contains("401"), "{error}");
    let before = [lacks.asked(1).await.len(), has.asked(1).await.len()];
    let basic = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let header = format!("[host.'http://{}'.header]\nauthorization = 'Basic {basic}'\n", has.address());
    hosts(&header).node().puller.pull(&reference, &[], &()).await.unwrap();
    for (registry, before) in [&lacks, &has].into_iter().zip(before) {
        // The manifest, the configuration, the module.
        let asked = registry.asked(before + 3).await;
        assert!(asked.iter().all(|asked| asked.target.ends_with("?ns=registry.test")), "{asked:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_pulls_through_gives_also_what_its_registry_cannot_any_more() {
    let origin = Registry::start();
    let bytes = module(100_000);
    origin.push("team/app:v1", &bytes, &Credential::Anonymous).await;
    let mirror = Registry::mirror_of(&origin);
    let capabilities = "capabilities = ['pull', 'resolve']";
    let (server, host) = (origin.address(), mirror.address());
    let hosts =
        Hosts::new("registry.test", &format!("server = 'http://{server}'\n[host.'http://{host}']\n{capabilities}\n"));
    let reference = image("registry.test/team/app:v1");
    let first = hosts.node().puller.pull(&reference, &[], &()).await.unwrap();
    let manifest: Value = serde_json::from_slice(&fs::read(origin.blob_file(&first.digest)).unwrap()).unwrap();
    for descriptor in [&manifest["config"], &manifest["layers"][0]] {
        mirror.keeps("team/app", &descriptor["digest"].as_str().unwrap().parse().unwrap()).await;
    }
    drop(origin);
    let node = hosts.node();
    let again = node.puller.pull(&reference, &[], &()).await.unwrap();
    assert_eq!(again.digest, first.digest);
    let Content::Module { path, .. } = again.content else { panic!() };
    assert_eq!(fs::read(path).unwrap(), bytes);
    let error = node.puller.pull(&image("registry.test/team/other:v1"), &[], &()).await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains(&format!("mirror {host}: ")), "{error}");
}

#[tokio::test]
async fn a_mirror_that_gives_other_content_is_passed_over() {
    let bytes = module(100_000);
    let mut other = bytes.clone();
    other[50_000] ^= 1;
    let (liar, origin, digest) = (Registry::start(), Registry::start(), Digest::of(&bytes));
    liar.push("app:v1", &bytes, &Credential::Anonymous).await;
    let reference = origin.push("app:v1", &bytes, &Credential::Anonymous).await;
    fs::write(liar.blob_file(&digest), other).unwrap();
    let hosts = Hosts::new(origin.address(), &format!("[host.'http://{}']\n", liar.address()));
    let node = hosts.node();
    let image = node.puller.pull(&reference, &[], &()).await.unwrap();
    let Content::Module { path, .. } = image.content else { panic!() };
    assert_eq!(fs::read(path).unwrap(), bytes);
    for (registry, requests) in [(&liar, 3), (&origin, 1)] {
        let asked = registry.asked(requests).await;
        let module = asked.iter().filter(|asked| asked.target.contains(digest.as_str())).count();
        assert_eq!((asked.len(), module), (requests, 1), "{asked:?}");
    }
}

#[tokio::test]
async fn a_failure_says_what_every_place_said() {
    let lacks = Registry::start();
    let [gone, server] = NOWHERE;
    let text = format!("server = '{server}'\n[host.'http://{}']\n[host.'{gone}']\n", lacks.address());
    let hosts = Hosts::new("_default", &text);
    let error = hosts.node().puller.pull(&image("registry.test/app:v1"), &[], &()).await;
    let error = error.unwrap_err().to_string();
    for said in [
        "registry registry.test: cannot be reached".to_owned(),
        format!("; mirror {}: not found (404): ", lacks.address()),
        format!("; mirror {}: cannot be reached", &gone[7..]),
    ] {
        assert!(error.contains(&said), "{said}: {error}");
    }
}

#[tokio::test]
async fn a_place_is_asked_only_for_what_it_is_there_for() {
    let (content, server) = (Registry::start(), Registry::start());
    for registry in [&content, &server] {
        registry.push("app:v1", MODULE, &Credential::Anonymous).await;
    }
    let text = format!(
        "server = 'http://{}'\n[host.'http://{}']\ncapabilities = ['pull']\n",
        server.address(),
        content.address()
    );
    let hosts = Hosts::new("registry.test", &text);
    hosts.node().puller.pull(&image("registry.test/app:v1"), &[], &()).await.unwrap();
    let (blobs, names) = (content.asked(2).await, server.asked(1).await);
    assert!(blobs.iter().all(|asked| asked.target.contains("/blobs/")), "{blobs:?}");
    assert!(names.iter().all(|asked| asked.target.contains("/manifests/v1")), "{names:?}");
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
    fs::write(file.path(), MODULE).unwrap();
    crate::install_tls();
    let reference = registry.image("app:v1");
    let artifact = Artifact::wasm(file.path()).unwrap();
    Pusher::new(with.config()).push(&reference, &artifact, &Credential::Anonymous, &()).await.unwrap();
    with.node().puller.pull(&reference, &[], &()).await.unwrap();
    let without = Hosts::new(&directory, &server);
    let error = without.node().puller.pull(&reference, &[], &()).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    // Docker's layout: the same by file names alone.
    let dockers = Hosts::new("_default", "");
    let own = dockers.path().join(registry.address());
    fs::create_dir(&own).unwrap();
    for name in ["ca.crt", "client.cert", "client.key"] {
        fs::copy(files.join(name), own.join(name)).unwrap();
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

#[tokio::test]
async fn what_is_wrong_with_the_registrys_content_is_not_hidden_by_a_mirror_that_has_none() {
    let mut precompiled = b"\x7fELF\x02\x01\x01\xc8".to_vec();
    precompiled.resize(5000, 0);
    let (lacks, served) = (Registry::start(), Documents::of(&precompiled));
    let origin = Script::start(move |request| served.answer(request)).await;
    let hosts = Hosts::new(origin.address(), &format!("[host.'http://{}']\n", lacks.address()));
    let error = hosts.node().puller.pull(&origin.image(), &[], &()).await.unwrap_err();
    assert!(matches!(error.cause, PullCause::Refused(Refusal::Precompiled("wasmtime"))), "{error}");
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_mirror_with_a_path_asks_for_tokens_to_what_the_path_leads_to() {
    let service = TokenService::start().await;
    let mirror = Registry::with_tokens(&service.realm(), &service.jwks);
    mirror.push("public/hub/app:v1", MODULE, &right()).await;
    let before = service.script.asked().len();
    let place = format!("[host.'http://{}/v2/public/hub']\noverride_path = true\n", mirror.address());
    let hosts = Hosts::new("registry.test", &format!("server = '{}'\n{place}", NOWHERE[0]));
    hosts.node().puller.pull(&image("registry.test/app:v1"), &[right()], &()).await.unwrap();
    let asked = &service.script.asked()[before..];
    let [request] = asked else { panic!("{asked:?}") };
    assert!(request.target.contains("scope=repository%3Apublic%2Fhub%2Fapp%3Apull"), "{request:?}");
    assert_eq!((request.target.matches("scope=").count(), request.header("authorization")), (1, None));
}

/// A mirror that keeps `app` as `cache/app`, and its token service, here or elsewhere, for whom the tokens are as it says.
async fn renaming_mirror(realm: Option<String>, gives: &'static str) -> Script {
    let served = Documents::of(MODULE);
    Script::start(move |request| match (request.path(), request.header("authorization")) {
        ("/token", _) => token(request.target.as_str(), gives),
        (_, Some(shown)) if shown == format!("Bearer {gives}") => served.answer(request),
        _ => {
            let own = format!("http://{}/token", request.header("host").unwrap());
            let realm = realm.as_ref().unwrap_or(&own);
            let asks = format!("Bearer realm=\"{realm}\",service=\"m\",scope=\"repository:cache/app:pull\"");
            Reply::status(401, "").header("WWW-Authenticate", asks)
        }
    })
    .await
}

fn token(target: &str, gives: &str) -> Reply {
    match target.contains("scope=repository%3Acache%2Fapp%3Apull") {
        true => Reply::ok(format!("{{\"token\":\"{gives}\"}}")),
        false => Reply::ok("{\"token\":\"for-nothing\"}"),
    }
}

#[tokio::test]
async fn a_mirror_gets_the_rights_that_it_names_and_its_header_reaches_its_own_token_service_alone() {
    let elsewhere = Script::start(|request| token(&request.target, "a-token")).await;
    for realm in [None, Some(format!("http://{}/token", elsewhere.address()))] {
        let is_own = realm.is_none();
        let mirror = renaming_mirror(realm, "a-token").await;
        let place = format!("[host.'http://{0}']\n[host.'http://{0}'.header]\n", mirror.address());
        let header = "authorization = 'Basic bTptCg=='\nx-own = '1'\n";
        let hosts = Hosts::new("registry.test", &format!("server = '{}'\n{place}{header}", NOWHERE[0]));
        hosts.node().puller.pull(&image("registry.test/app:v1"), &[right()], &()).await.unwrap();
        let asked = if is_own { mirror.asked() } else { elsewhere.asked() };
        let asked: Vec<_> = asked.into_iter().filter(|request| request.path() == "/token").collect();
        let shown = is_own.then_some(("Basic bTptCg==", "1"));
        let headers: Vec<_> = asked.iter().map(|it| it.header("authorization").zip(it.header("x-own"))).collect();
        assert_eq!(headers, [shown]);
        assert!(mirror.asked().iter().all(|request| request.header("x-own") == Some("1")));
    }
}

#[tokio::test]
async fn whom_a_registry_may_be_trusted_by_holds_where_it_sends_us_too() {
    let storage = Registry::with_tls();
    let bytes = module(2000);
    storage.push("app:v1", &bytes, &Credential::Anonymous).await;
    let served = Documents::of(&bytes);
    let address = format!("https://{}/v2/app/blobs/{}", storage.address(), Digest::of(&bytes));
    let origin = Script::start(move |request| match served.wants_layer(request) {
        true => Reply::status(307, "").header("Location", address.clone()),
        false => served.answer(request),
    });
    let origin = origin.await;
    let ca = format!("ca = '{}'\n", storage.client_files().join("ca.crt").display());
    for (setting, is_trusted) in [(ca.as_str(), true), ("skip_verify = true\n", true), ("", false)] {
        let hosts = Hosts::new(origin.address(), &format!("server = 'http://{}'\n{setting}", origin.address()));
        let config = PullerConfig { registries: hosts.config(), resumes: 0, ..PullerConfig::default() };
        let pulled = Node::with(config).puller.pull(&origin.image(), &[], &()).await;
        assert_eq!(pulled.is_ok(), is_trusted, "{setting}: {pulled:?}");
    }
}
