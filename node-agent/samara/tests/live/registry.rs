//! The real registry, `distribution`, on a loopback port of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use samara_images::Digest;
use serde_json::{Value, json};

/// User and password of one that asks for them; the hash is bcrypt of the password.
pub(crate) const USER: &str = "samara";
pub(crate) const PASSWORD: &str = "open sesame";
const HTPASSWD: &str = "samara:$2b$04$Eo1AerRQ0aXMCGryBoIHnuZUKVMVDeN3gqt9iXb1E8m8hTJGPkcha\n";

/// Ends with this.
pub(crate) struct Registry {
    process: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Registry {
    /// Asks everybody for a password.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), json!({}))
    }

    /// The same over TLS, with a certificate of an authority of its own, and only for those who show one of it too.
    pub(crate) fn secure() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(dir.path().join("ca.crt"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let names = ["127.0.0.1", "0.0.0.0"].map(str::to_owned);
            let certificate = CertificateParams::new(names).unwrap();
            let certificate = certificate.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.cert")), certificate.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        let file = |name: &str| dir.path().join(name);
        let tls = json!({"certificate": file("server.cert"), "key": file("server.key"), "clientcas": [file("ca.crt")]});
        Self::start_in(dir, json!({ "tls": tls }))
    }

    fn start_in(dir: tempfile::TempDir, mut http: Value) -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/registry");
        assert!(tools.is_file(), "{} is not built: `make tools`", tools.display());
        let passwords = dir.path().join("htpasswd");
        std::fs::write(&passwords, HTPASSWD).unwrap();
        http["addr"] = json!("127.0.0.1:0");
        http["secret"] = json!("test");
        let config = json!({
            "version": "0.1",
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": http,
            "auth": {"htpasswd": {"realm": "test", "path": passwords}},
        });
        let file = dir.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut process = Command::new(tools)
            .arg("serve")
            .arg(file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = log.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("127.0.0.1:{port}"))
        });
        // It would stop at a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, address: listening.expect("the registry listens"), dir }
    }

    /// Loses a blob, as if its storage had.
    pub(crate) fn lose(&self, digest: &Digest) {
        let hex = digest.hex();
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        std::fs::remove_file(blobs.join(&hex[..2]).join(hex).join("data")).unwrap();
    }

    pub(crate) fn host(&self) -> &str {
        &self.address
    }

    /// Its port, of which all addresses of this machine are.
    pub(crate) fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    /// Where `ca.crt`, `client.cert` and `client.key` are.
    pub(crate) fn files(&self) -> &Path {
        self.dir.path()
    }

    /// A name in it.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
