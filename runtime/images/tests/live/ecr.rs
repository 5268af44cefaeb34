//! Amazon's registry, by the plugin that nodes of EKS have.
//!
//! Real: the plugin (upstream's binary), its protocol, what it asks of AWS, and the registry that checks the password
//! (distribution). Not real: AWS. moto answers as its ECR does, always with the same password; and the registry stands, as
//! the HTTP proxy for ECR's host, where ECR's own would be, without TLS.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use samara_images::{Artifact, Credential, NodeCredentials, Owner, Plugins, Proxy, Pusher, Reference, RegistryConfig};
use serde_json::json;
use tempfile::TempDir;

use crate::registry::Registry;
use crate::{MODULE, Node, tool};

const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
/// What moto gives to this account, and its bcrypt hash.
const PASSWORD: &str = "123456789012-auth-token";
const HTPASSWD: &str = "AWS:$2b$04$Eo1AerRQ0aXMCGryBoIHnuBSyOuZqZIyiFVE5QVSCk8rnEzlTzl.G\n";

/// AWS, as far as moto has it.
struct Moto {
    process: Child,
    directory: TempDir,
    address: String,
}

impl Moto {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        // Its script names the directory in which it was made.
        let mut process = Command::new(tool("moto/bin/python3"))
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .env_clear()
            .env("HOME", directory.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let address = loop {
            let said = std::fs::read_to_string(&log).unwrap();
            if let Some((_, rest)) = said.split_once("Running on http://")
                && let Some((address, _)) = rest.split_once('\n')
            {
                break address.trim().to_owned();
            }
            if let Some(status) = process.try_wait().unwrap() {
                panic!("moto ended ({status}): {said}");
            }
            assert!(Instant::now() < deadline, "moto does not listen: {said}");
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { process, directory, address }
    }

    /// How often it was asked for something.
    fn asked(&self) -> usize {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap().matches("\"POST / HTTP").count()
    }

    fn plugins(&self) -> Plugins {
        let environment = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        let environment: Vec<_> = environment.map(|(name, value)| json!({"name": name, "value": value})).to_vec();
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
            "providers": [{
                "name": "ecr-credential-provider", "matchImages": ["*.dkr.ecr.*.amazonaws.com"],
                "defaultCacheDuration": "12h", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "env": environment,
            }],
        });
        let file = self.directory.path().join("config.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        Plugins::read(&file, tool("ecr-credential-provider").parent().unwrap()).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn an_image_of_ecr_is_pulled_with_what_the_real_plugin_is_given() {
    crate::install_tls();
    let registry = Registry::for_whom(HTPASSWD);
    let config = RegistryConfig {
        plain_http: vec![HOST.to_owned()],
        proxy: Some(Proxy { http: Some(format!("http://{}", registry.address())), https: None, except: String::new() }),
        ..RegistryConfig::default()
    };
    let reference = Reference::parse(&format!("{HOST}/team/app:v1")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), MODULE).unwrap();
    let given = Credential::Basic { username: "AWS".to_owned(), password: PASSWORD.to_owned() };
    let artifact = Artifact::wasm(file.path()).unwrap();
    Pusher::new(config.clone()).push(&reference, &artifact, &given).await.unwrap();

    let error = Node::trusting(config.clone()).puller.pull(&reference, &[], &()).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    let moto = Moto::start();
    let node = NodeCredentials { docker: Vec::new(), plugins: moto.plugins() };
    assert_eq!(node.lookup(&reference, None).await, [(given.clone(), Owner::Node)]);
    Node::trusting(config).puller.pull(&reference, &[given], &()).await.unwrap();
    // The whole registry's credentials came at once; other registries are none of the plugin's business.
    let other = Reference::parse(&format!("{HOST}/other/app:v2")).unwrap();
    assert_eq!(node.lookup(&other, None).await.len(), 1);
    assert_eq!(node.lookup(&Reference::parse("docker.io/library/nginx").unwrap(), None).await, []);
    assert_eq!(moto.asked(), 1);
}
