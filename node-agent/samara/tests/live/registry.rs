//! The real registry, `distribution`, on a loopback port of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// User and password of one that asks for them; the hash is bcrypt of the password.
pub(crate) const USER: &str = "samara";
pub(crate) const PASSWORD: &str = "open sesame";
const HTPASSWD: &str = "samara:$2b$04$Eo1AerRQ0aXMCGryBoIHnuZUKVMVDeN3gqt9iXb1E8m8hTJGPkcha\n";

/// Ends with this.
pub(crate) struct Registry {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Asks everybody for a password.
    pub(crate) fn start() -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/registry");
        assert!(tools.is_file(), "{} is not built: `make tools`", tools.display());
        let dir = tempfile::tempdir().unwrap();
        let passwords = dir.path().join("htpasswd");
        std::fs::write(&passwords, HTPASSWD).unwrap();
        let config = serde_json::json!({
            "version": "0.1",
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": {"addr": "127.0.0.1:0", "secret": "test"},
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
        Self { process, address: listening.expect("the registry listens"), _dir: dir }
    }

    pub(crate) fn host(&self) -> &str {
        &self.address
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
