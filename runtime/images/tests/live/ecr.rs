//! Amazon's registry, by the plugin that nodes of EKS have, and by the helper that docker has.
//!
//! Real: both (upstream's binaries), their protocols, what they ask of AWS, and the registry that checks the password
//! (distribution). Not real: AWS. moto answers as its ECR does, always with the same password; and the registry stands, as
//! the HTTP proxy for ECR's host, where ECR's own would be, without TLS.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use samara_images::{
    Account, AccountFacts, Artifact, Credential, DockerConfig, NodeCredentials, Owner, Plugins, Proxy, Pusher,
    Reference, RegistryConfig,
};
use serde_json::{Value, json};

use crate::moto::Moto;
use crate::registry::Registry;
use crate::{MODULE, Node, tool};

const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
/// What moto gives to this account, and its bcrypt hash.
const PASSWORD: &str = "123456789012-auth-token";
const HTPASSWD: &str = "AWS:$2b$04$Eo1AerRQ0aXMCGryBoIHnuBSyOuZqZIyiFVE5QVSCk8rnEzlTzl.G\n";

/// The plugin with these variables, and more fields of its configuration.
fn plugins(moto: &Moto, environment: &[(&str, String)], more: Value) -> Plugins {
    let environment: Vec<_> = environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut provider = json!({
        "name": "ecr-credential-provider", "matchImages": ["*.dkr.ecr.*.amazonaws.com"],
        "defaultCacheDuration": "12h", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "env": environment,
    });
    provider.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [provider],
    });
    let file = moto.directory().join("config.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    Plugins::read(&file, tool("ecr-credential-provider").parent().unwrap()).unwrap()
}

/// The registry behind ECR's name.
fn reached_at(registry: &str) -> RegistryConfig {
    RegistryConfig {
        plain_http: vec![HOST.to_owned()],
        proxy: Some(Proxy { http: Some(format!("http://{registry}")), https: None, except: String::new() }),
        ..RegistryConfig::default()
    }
}

fn given() -> Credential {
    Credential::Basic { username: "AWS".to_owned(), password: PASSWORD.to_owned() }
}

/// A registry that asks for the password, with an image in it.
async fn filled() -> (Registry, Reference) {
    crate::install_tls();
    let registry = Registry::for_whom(HTPASSWD);
    let reference = Reference::parse(&format!("{HOST}/team/app:v1")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), MODULE).unwrap();
    let artifact = Artifact::wasm(file.path()).unwrap();
    Pusher::new(reached_at(registry.address())).push(&reference, &artifact, &given(), &()).await.unwrap();
    (registry, reference)
}

#[tokio::test]
async fn an_image_of_ecr_is_pulled_with_what_the_real_plugin_is_given() {
    let (registry, reference) = filled().await;
    let config = reached_at(registry.address());
    let error = Node::trusting(config.clone()).puller.pull(&reference, &[], &()).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    let moto = Moto::start();
    let node = NodeCredentials { docker: Vec::new(), plugins: plugins(&moto, &moto.environment(), json!({})) };
    assert_eq!(node.lookup(&reference, None).await, [(given(), Owner::Node)]);
    Node::trusting(config).puller.pull(&reference, &[given()], &()).await.unwrap();
    // The whole registry's credentials came at once; other registries are none of the plugin's business.
    let other = Reference::parse(&format!("{HOST}/other/app:v2")).unwrap();
    assert_eq!(node.lookup(&other, None).await.len(), 1);
    assert_eq!(node.lookup(&Reference::parse("docker.io/library/nginx").unwrap(), None).await, []);
    assert_eq!(moto.asked(), 1);
}

/// A pod's service account that may act as a role of AWS.
struct Buyer;

impl Account for Buyer {
    fn namespace(&self) -> &str {
        "shop"
    }

    fn name(&self) -> &str {
        "buyer"
    }

    fn facts(&self) -> BoxFuture<'_, Result<AccountFacts, String>> {
        let role = ("eks.amazonaws.com/ecr-role-arn".to_owned(), "arn:aws:iam::123456789012:role/buyer".to_owned());
        async { Ok(AccountFacts { uid: "uid".to_owned(), annotations: [role].into() }) }.boxed()
    }

    fn token<'a>(&'a self, audience: &'a str) -> BoxFuture<'a, Result<String, String>> {
        async move { Ok(format!("token-for-{audience}")) }.boxed()
    }
}

#[tokio::test]
async fn the_real_plugin_takes_the_pods_own_token_for_a_role_of_aws() {
    let (registry, reference) = filled().await;
    let moto = Moto::start();
    let wants = json!({ "tokenAttributes": {
        "serviceAccountTokenAudience": "sts.amazonaws.com", "cacheType": "ServiceAccount", "requireServiceAccount": true,
        "requiredServiceAccountAnnotationKeys": ["eks.amazonaws.com/ecr-role-arn"],
    } });
    // The node itself has nothing to show to AWS.
    let [endpoint, .., no_metadata] = moto.environment();
    let plugins = plugins(&moto, &[endpoint, no_metadata], wants);
    let found = plugins.lookup(&reference, Some(&Buyer)).await;
    assert_eq!(found, [(given(), Owner::ServiceAccount { uid: "uid".to_owned() })]);
    Node::trusting(reached_at(registry.address())).puller.pull(&reference, &[given()], &()).await.unwrap();
    // For the role, and then for the password.
    assert_eq!(moto.asked(), 2);
    assert_eq!(plugins.lookup(&reference, None).await, [], "nobody's token");
}

/// Helpers are found by `PATH`, and take what they need from the environment: a process of its own has it set.
#[tokio::test]
async fn an_image_of_ecr_is_pulled_with_what_dockers_helper_is_given() {
    let (registry, reference) = filled().await;
    let moto = Moto::start();
    let helper = tool("docker-credential-ecr-login");
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ecr::asks_dockers_helper", "--ignored", "--nocapture"])
        .env_clear()
        .env("PATH", helper.parent().unwrap())
        .env("HOME", moto.directory())
        .envs(moto.environment())
        .env("TEST_REGISTRY", registry.address())
        .env("TEST_IMAGE", reference.to_string())
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    assert_eq!(moto.asked(), 1);
}

#[tokio::test]
#[ignore = "a part of an_image_of_ecr_is_pulled_with_what_dockers_helper_is_given"]
async fn asks_dockers_helper() {
    let config = json!({"credHelpers": {HOST: "ecr-login"}}).to_string();
    let config = DockerConfig::parse(config.as_bytes()).unwrap();
    let image = Reference::parse(&std::env::var("TEST_IMAGE").unwrap()).unwrap();
    let found = config.helped(&image).await.unwrap().unwrap();
    assert_eq!(found, given());
    let registry = std::env::var("TEST_REGISTRY").unwrap();
    Node::trusting(reached_at(&registry)).puller.pull(&image, &[found], &()).await.unwrap();
    let other = Reference::parse("docker.io/library/nginx").unwrap();
    assert_eq!(config.helped(&other).await.unwrap(), None);
}
