//! What a node itself knows: docker's files with their helpers, and plugins as the kubelet runs them, before the real registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use samara_images::{
    Account, AccountFacts, Artifact, Credential, DockerConfig, NodeCredentials, Owner, Plugins, Pusher, Reference,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::{PASSWORD, Registry, USER};
use crate::{MODULE, Node};

const V1: &str = "credentialprovider.kubelet.k8s.io/v1";

fn right() -> Credential {
    Credential::Basic { username: USER.into(), password: PASSWORD.into() }
}

/// Writes a script, by another process: a program that this one has had open for writing may be open still in a child which
/// another test is about to start, and then it cannot be run.
fn program(path: &Path, text: &str) {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

/// Programs in a directory, and a configuration that names them.
struct Bin(TempDir);

impl Bin {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn script(&self, name: &str, text: &str) {
        program(&self.0.path().join(name), text);
    }

    /// A plugin that writes down what it is asked, one line each, and answers with `answer`.
    fn plugin(&self, name: &str, answer: &Value) {
        let answer_file = self.0.path().join(format!("{name}.answer"));
        fs::write(&answer_file, answer.to_string()).unwrap();
        let asked = self.0.path().join(format!("{name}.asked"));
        self.script(name, &format!("cat >> {0}; echo >> {0}; cat {1}", asked.display(), answer_file.display()));
    }

    fn asked(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.0.path().join(format!("{name}.asked"))).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn plugins(&self, providers: Value) -> Plugins {
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": providers,
        });
        let file = self.0.path().join("config.yaml");
        fs::write(&file, config.to_string()).unwrap();
        Plugins::read(&file, self.0.path()).unwrap()
    }
}

fn provider(name: &str, images: &[&str]) -> Value {
    json!({"name": name, "matchImages": images, "defaultCacheDuration": "1h", "apiVersion": V1})
}

fn answer(kind: &str, registry: &str, password: &str) -> Value {
    json!({
        "apiVersion": V1, "kind": "CredentialProviderResponse", "cacheKeyType": kind,
        "auth": {registry: {"username": USER, "password": password}},
    })
}

async fn pushed(registry: &Registry, name: &str) -> Reference {
    crate::install_tls();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), MODULE).unwrap();
    let reference = registry.image(name);
    let artifact = Artifact::wasm(file.path()).unwrap();
    Pusher::new(registry.config()).push(&reference, &artifact, &right(), &()).await.unwrap();
    reference
}

fn credentials(found: Vec<(Credential, Owner)>) -> Vec<Credential> {
    found.into_iter().map(|(credential, _)| credential).collect()
}

#[tokio::test]
async fn several_plugins_fit_and_the_one_that_the_registry_takes_is_told() {
    let registry = Registry::with_basic_auth();
    let reference = pushed(&registry, "team/app:v1").await;
    let bin = Bin::new();
    bin.plugin("stale", &answer("Registry", registry.address(), "stale"));
    bin.script("broken", "echo no such account >&2; exit 1");
    bin.plugin("other", &answer("Registry", "other.test", PASSWORD));
    bin.plugin("right", &answer("Registry", registry.address(), PASSWORD));
    let everything = ["*.*.*.*:*", registry.address()];
    let names = ["stale", "broken", "other", "right"];
    let plugins = bin.plugins(names.iter().map(|name| provider(name, &everything[1..])).collect());
    let node = NodeCredentials { docker: vec![], plugins };
    let found = credentials(node.lookup(&reference, None).await);
    assert_eq!(found.len(), 2);
    let pulled = Node::new().puller.pull_telling(&reference, &found, &()).await.unwrap();
    assert_eq!(pulled.credential, Some(1));
    let request = json!({"apiVersion": V1, "kind": "CredentialProviderRequest", "image": reference.name()});
    assert_eq!(bin.asked("right"), [request]);
}

#[tokio::test]
async fn an_answer_is_kept_for_the_image_the_registry_or_all_as_it_says() {
    for (kind, expected) in [("Image", 3), ("Registry", 2), ("Global", 1)] {
        let bin = Bin::new();
        bin.plugin("p", &answer(kind, "*.test", "p"));
        let plugins = bin.plugins(json!([provider("p", &["*.test"])]));
        for name in ["a.test/one:1", "a.test/one:2", "a.test/two", "b.test/one"] {
            let found = plugins.lookup(&Reference::parse(name).unwrap(), None).await;
            assert_eq!(found.len(), 1, "{kind} {name}");
        }
        assert!(plugins.lookup(&Reference::parse("other.example/one").unwrap(), None).await.is_empty());
        // a/one, a/two and b/one; a and b; all.
        assert_eq!(bin.asked("p").len(), expected, "{kind}");
    }
    let bin = Bin::new();
    let mut never = answer("Global", "*.test", "p");
    never["cacheDuration"] = json!("0s");
    bin.plugin("p", &never);
    let plugins = bin.plugins(json!([provider("p", &["*.test"])]));
    for _ in 0..2 {
        plugins.lookup(&Reference::parse("a.test/one").unwrap(), None).await;
    }
    assert_eq!(bin.asked("p").len(), 2);
}

struct Pod {
    name: &'static str,
    annotations: BTreeMap<String, String>,
}

impl Account for Pod {
    fn namespace(&self) -> &str {
        "shop"
    }

    fn name(&self) -> &str {
        self.name
    }

    fn facts(&self) -> BoxFuture<'_, Result<AccountFacts, String>> {
        let facts = AccountFacts { uid: format!("uid-{}", self.name), annotations: self.annotations.clone() };
        async { Ok(facts) }.boxed()
    }

    fn token<'a>(&'a self, audience: &'a str) -> BoxFuture<'a, Result<String, String>> {
        async move { Ok(format!("{}@{audience}", self.name)) }.boxed()
    }
}

#[tokio::test]
async fn a_plugin_that_wants_a_token_gets_the_pods_and_its_answer_is_for_that_account_alone() {
    let bin = Bin::new();
    bin.plugin("p", &answer("Global", "*.test", "p"));
    let mut wants = provider("p", &["*.test"]);
    wants["tokenAttributes"] = json!({
        "serviceAccountTokenAudience": "registry", "cacheType": "ServiceAccount", "requireServiceAccount": true,
        "requiredServiceAccountAnnotationKeys": ["shop/role"],
    });
    let plugins = bin.plugins(json!([wants]));
    let image = Reference::parse("a.test/one").unwrap();
    let role = || BTreeMap::from([("shop/role".to_owned(), "buyer".to_owned()), ("other".to_owned(), "x".to_owned())]);
    let (a, b) = (Pod { name: "a", annotations: role() }, Pod { name: "b", annotations: role() });
    let bare = Pod { name: "bare", annotations: BTreeMap::new() };
    for (account, expected) in [
        (None, None),
        (Some(&bare), None),
        (Some(&a), Some("uid-a")),
        (Some(&a), Some("uid-a")),
        (Some(&b), Some("uid-b")),
    ] {
        let found = plugins.lookup(&image, account.map(|account| account as &dyn Account)).await;
        let owners: Vec<Owner> = found.into_iter().map(|(_, owner)| owner).collect();
        let expected: Vec<Owner> =
            expected.map(|uid| Owner::ServiceAccount { uid: uid.to_owned() }).into_iter().collect();
        assert_eq!(owners, expected);
    }
    let asked = bin.asked("p");
    let tokens: Vec<&Value> = asked.iter().map(|request| &request["serviceAccountToken"]).collect();
    assert_eq!(tokens, [&json!("a@registry"), &json!("b@registry")]);
    assert_eq!(asked[0]["serviceAccountAnnotations"], json!({"shop/role": "buyer"}));
}

#[tokio::test]
async fn a_token_that_a_plugin_gives_back_is_taken_only_where_it_is_kept_by_the_token() {
    let pod = Pod { name: "a", annotations: BTreeMap::new() };
    let image = Reference::parse("a.test/one").unwrap();
    for (cache, found, asked) in [("ServiceAccount", 0, 2), ("Token", 1, 1)] {
        let bin = Bin::new();
        let (head, tail) = (answer("Global", "*.test", "TOKEN").to_string(), bin.0.path().join("p.asked"));
        let (before, after) = head.split_once("TOKEN").unwrap();
        let token = r#"sed -n '$s/.*"serviceAccountToken":"\([^"]*\)".*/\1/p'"#;
        let file = tail.display();
        bin.script("p", &format!("cat >> {file}; echo >> {file}; echo '{before}'\"$({token} {file})\"'{after}'"));
        let mut wants = provider("p", &["*.test"]);
        wants["tokenAttributes"] = json!({
            "serviceAccountTokenAudience": "registry", "cacheType": cache, "requireServiceAccount": true,
        });
        let plugins = bin.plugins(json!([wants]));
        for _ in 0..2 {
            let given = credentials(plugins.lookup(&image, Some(&pod)).await);
            let token = Credential::Basic { username: USER.into(), password: "a@registry".into() };
            assert_eq!(given, vec![token; found], "{cache}");
        }
        assert_eq!(bin.asked("p").len(), asked, "{cache}");
    }
}

#[tokio::test]
async fn who_asks_for_one_image_does_not_wait_for_another() {
    let bin = Bin::new();
    let file = |name: &str| bin.0.path().join(name);
    let (begun, go) = (file("begun"), file("go"));
    let waits = format!(
        "case $(cat) in *slow*) : > {}; until [ -e {} ]; do sleep 0.05; done;; esac",
        begun.display(),
        go.display()
    );
    bin.script("p", &format!("{waits}; echo '{}'", answer("Image", "*.test", "p")));
    let plugins = bin.plugins(json!([provider("p", &["*.test"])]));
    let (slow, fast) = ["a.test/slow", "a.test/fast"].map(|name| Reference::parse(name).unwrap()).into();
    let waits = plugins.lookup(&slow, None);
    let others = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let found = tokio::time::timeout(Duration::from_secs(40), plugins.lookup(&fast, None)).await;
        fs::write(&go, "").unwrap();
        found.expect("it waits").len()
    };
    let (slow, fast) = tokio::join!(waits, others);
    assert_eq!((slow.len(), fast), (1, 1));
}

#[tokio::test]
async fn dockers_file_and_its_helper_let_the_node_in() {
    let registry = Registry::with_basic_auth();
    let reference = pushed(&registry, "team/app:v1").await;
    let bin = Bin::new();
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{USER}:{PASSWORD}"));
    let file = bin.0.path().join("docker.json");
    fs::write(&file, json!({"auths": {registry.address(): {"auth": auth}}}).to_string()).unwrap();
    let gone = bin.0.path().join("none.json");
    let node = NodeCredentials { docker: vec![gone, file], plugins: Plugins::default() };
    let found = credentials(node.lookup(&reference, None).await);
    assert_eq!(found, [right()]);
    Node::new().puller.pull(&reference, &found, &()).await.unwrap();
    helper(&registry, &reference, bin.0.path()).await;
}

/// Helpers are found by `PATH`, which this process shares among its tests: a process of its own has it set.
async fn helper(registry: &Registry, reference: &Reference, directory: &Path) {
    let answer = json!({"ServerURL": registry.address(), "Username": USER, "Secret": PASSWORD});
    let asked = format!("get {}", registry.address());
    let text = format!("read server; [ \"$1 $server\" = '{asked}' ] && echo '{answer}'");
    program(&directory.join("docker-credential-test"), &text);
    let config = json!({"credHelpers": {registry.address(): "test"}}).to_string();
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "plugins::asks_the_helper", "--ignored", "--nocapture"])
        .env("PATH", format!("{}:/usr/bin:/bin", directory.display()))
        .env("TEST_CONFIG", config)
        .env("TEST_IMAGE", reference.to_string())
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "a part of dockers_file_and_its_helper_let_the_node_in"]
async fn asks_the_helper() {
    let config = DockerConfig::parse(std::env::var("TEST_CONFIG").unwrap().as_bytes()).unwrap();
    let image = Reference::parse(&std::env::var("TEST_IMAGE").unwrap()).unwrap();
    let found = config.helped(&image).await.unwrap().unwrap();
    assert_eq!(found, right());
    Node::new().puller.pull(&image, &[found], &()).await.unwrap();
}
