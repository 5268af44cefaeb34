//! The real registry: `distribution` on a loopback port of its own, ended with the test.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use samara_images::{Artifact, Credential, Digest, Pusher, Reference, RegistryConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

/// User and password of registries that ask for them; the hash is bcrypt of the password.
pub(crate) const USER: &str = "samara";
pub(crate) const PASSWORD: &str = "open sesame";
const HTPASSWD: &str = "samara:$2b$04$Eo1AerRQ0aXMCGryBoIHnuZUKVMVDeN3gqt9iXb1E8m8hTJGPkcha\n";

/// A request that it has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) status: u16,
}

/// What one is to be.
#[derive(Default)]
struct Setup {
    auth: Option<Value>,
    tls: Option<Value>,
    proxy: Option<Value>,
    storage: Option<Value>,
    authority: Option<Vec<u8>>,
}

pub(crate) struct Registry {
    process: Child,
    directory: TempDir,
    address: String,
    authority: Option<Vec<u8>>,
}

impl Registry {
    /// Plain http, open to all.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Setup::default())
    }

    /// A mirror that fetches from `origin` what it does not have, and keeps it.
    pub(crate) fn mirror_of(origin: &Self) -> Self {
        let proxy = json!({"remoteurl": format!("http://{}", origin.address)});
        Self::start_in(tempfile::tempdir().unwrap(), Setup { proxy: Some(proxy), ..Setup::default() })
    }

    /// Plain http, with `USER` and `PASSWORD` asked for by the registry itself.
    pub(crate) fn with_basic_auth() -> Self {
        Self::for_whom(HTPASSWD)
    }

    /// The same, with its content in a bucket of S3, whence it has it fetched.
    pub(crate) fn with_bucket(s3: &str, bucket: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("htpasswd");
        std::fs::write(&file, HTPASSWD).unwrap();
        let auth = json!({"htpasswd": {"realm": "test", "path": file}});
        let storage = json!({"s3": {
            "accesskey": "test", "secretkey": "test", "region": "us-east-1", "bucket": bucket,
            "regionendpoint": format!("http://{s3}"), "forcepathstyle": true, "secure": false,
        }});
        Self::start_in(directory, Setup { auth: Some(auth), storage: Some(storage), ..Setup::default() })
    }

    /// Plain http, for those in this file of names and bcrypt hashes.
    pub(crate) fn for_whom(htpasswd: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("htpasswd");
        std::fs::write(&file, htpasswd).unwrap();
        let auth = json!({"htpasswd": {"realm": "test", "path": file}});
        Self::start_in(directory, Setup { auth: Some(auth), ..Setup::default() })
    }

    /// Plain http, with tokens asked for that someone else gives out.
    pub(crate) fn with_tokens(realm: &str, jwks: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("jwks.json");
        std::fs::write(&file, jwks).unwrap();
        let token = json!({"realm": realm, "service": "registry", "issuer": "test", "jwks": file});
        Self::start_in(directory, Setup { auth: Some(json!({"token": token})), ..Setup::default() })
    }

    /// TLS, with a certificate of an authority that nobody knows yet.
    pub(crate) fn with_tls() -> Self {
        Self::secure(false)
    }

    /// The same, for clients which show a certificate of that authority.
    pub(crate) fn with_client_certificates() -> Self {
        Self::secure(true)
    }

    fn secure(asks_clients: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        std::fs::write(directory.path().join("ca.crt"), &authority_certificate).unwrap();
        for (name, endings) in [("tls", ["crt", "key"]), ("client", ["cert", "key"])] {
            let key = KeyPair::generate().unwrap();
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
            for (ending, text) in endings.into_iter().zip([certificate.pem(), key.serialize_pem()]) {
                std::fs::write(directory.path().join(format!("{name}.{ending}")), text).unwrap();
            }
        }
        let file = |name: &str| directory.path().join(name);
        let mut tls = json!({"certificate": file("tls.crt"), "key": file("tls.key")});
        if asks_clients {
            tls["clientcas"] = json!([file("ca.crt")]);
        }
        let authority = Some(authority_certificate.into_bytes());
        Self::start_in(directory, Setup { tls: Some(tls), authority, ..Setup::default() })
    }

    fn start_in(directory: TempDir, setup: Setup) -> Self {
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": false}},
            "storage": {
                "filesystem": {"rootdirectory": directory.path().join("data")},
                "delete": {"enabled": true},
                "maintenance": {"uploadpurging": {"enabled": false}},
            },
            "http": {"addr": "127.0.0.1:0", "secret": "test"},
        });
        for (place, value) in
            [("/auth", setup.auth), ("/proxy", setup.proxy), ("/storage", setup.storage), ("/http/tls", setup.tls)]
        {
            if let Some(value) = value {
                let (parent, key) = place.rsplit_once('/').unwrap();
                config.pointer_mut(parent).unwrap()[key] = value;
            }
        }
        let file = directory.path().join("config.yml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string()).unwrap();
        let log = directory.path().join("log");
        let process = Command::new(crate::tool("registry"))
            .arg("serve")
            .arg(&file)
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(File::create(directory.path().join("asked")).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut registry = Self { process, directory, address: String::new(), authority: setup.authority };
        registry.address = registry.wait(&log);
        registry
    }

    /// It says in its log where it listens.
    fn wait(&mut self, log: &Path) -> String {
        const MARK: &str = "listening on 127.0.0.1:";
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let lines = BufReader::new(File::open(log).unwrap()).lines().map_while(Result::ok);
            for line in lines {
                if let Some((_, rest)) = line.split_once(MARK) {
                    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    return format!("127.0.0.1:{port}");
                }
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the registry ended ({status}): {}", std::fs::read_to_string(log).unwrap());
            }
            assert!(
                Instant::now() < deadline,
                "the registry does not listen: {}",
                std::fs::read_to_string(log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where `ca.crt`, `client.cert` and `client.key` are.
    pub(crate) fn client_files(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn image(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.address)).unwrap()
    }

    /// How to reach it.
    pub(crate) fn config(&self) -> RegistryConfig {
        RegistryConfig {
            tls: self.authority.iter().map(|_| self.address.clone()).collect(),
            authorities: self.authority.clone().into_iter().collect(),
            ..RegistryConfig::default()
        }
    }

    /// Pushes a module to it under a name.
    pub(crate) async fn push(&self, name: &str, wasm: &[u8], credential: &Credential) -> Reference {
        crate::install_tls();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), wasm).unwrap();
        let (reference, artifact) = (self.image(name), Artifact::wasm(file.path()).unwrap());
        Pusher::new(self.config()).push(&reference, &artifact, credential, &()).await.unwrap();
        reference
    }

    /// What it was asked for with `GET` so far, once there are so many of them: it writes them down a moment after it answers.
    pub(crate) async fn asked(&self, at_least: usize) -> Vec<Asked> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let log = std::fs::read_to_string(self.directory.path().join("asked")).unwrap();
            // The last line may be half written.
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let asked: Vec<Asked> = whole.lines().filter_map(asked).filter(|asked| asked.method == "GET").collect();
            if asked.len() >= at_least {
                return asked;
            }
            assert!(Instant::now() < deadline, "fewer than {at_least}: {asked:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it keeps a blob in a repository: a mirror passes it on first.
    pub(crate) async fn keeps(&self, repository: &str, digest: &Digest) {
        let repositories = self.directory.path().join("data/docker/registry/v2/repositories");
        let link = repositories.join(repository).join("_layers/sha256").join(digest.hex()).join("link");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !link.is_file() {
            assert!(Instant::now() < deadline, "it does not keep {digest}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where it keeps a blob.
    pub(crate) fn blob_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `127.0.0.1 - - [time] "GET /v2/ HTTP/1.1" 200 2 "" "samara/0.1.0"`
fn asked(line: &str) -> Option<Asked> {
    let mut quoted = line.split('"');
    let mut request = quoted.nth(1)?.split(' ');
    let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
    Some(Asked { method: request.next()?.to_owned(), target: request.next()?.to_owned(), status })
}

/// The other one: go-containerregistry's, which `crane` serves from its memory.
pub(crate) struct Crane {
    process: Child,
    address: String,
    _directory: TempDir,
}

impl Crane {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut process = Command::new(crate::tool("crane"))
            .args(["registry", "serve", "--address", "127.0.0.1:0"])
            .env_clear()
            .env("HOME", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let port = loop {
            let said = std::fs::read_to_string(&log).unwrap();
            // A whole line, so that no digit is missing.
            if let Some((_, rest)) = said.split_once("serving on port ")
                && let Some((port, _)) = rest.split_once('\n')
            {
                break port.trim().to_owned();
            }
            if let Some(status) = process.try_wait().unwrap() {
                panic!("the registry ended ({status}): {said}");
            }
            assert!(Instant::now() < deadline, "the registry does not listen: {said}");
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { process, address: format!("127.0.0.1:{port}"), _directory: directory }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Crane {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
