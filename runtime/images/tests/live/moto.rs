//! AWS, as far as moto has it: ECR, STS and S3, on a loopback port of its own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tool;

/// It ends with this.
pub(crate) struct Moto {
    process: Child,
    directory: TempDir,
    address: String,
}

impl Moto {
    pub(crate) fn start() -> Self {
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

    /// How often it was asked for something of ECR or STS.
    pub(crate) fn asked(&self) -> usize {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap().matches("\"POST / HTTP").count()
    }

    /// Whether somebody got a part of this object from S3 with a signed address.
    pub(crate) fn gave(&self, object: &str) -> bool {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
        log.lines().any(|line| line.contains("\"GET /") && line.contains(object) && line.contains("X-Amz-Signature="))
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// For files of the test.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whose account it is, for Amazon's programs.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
