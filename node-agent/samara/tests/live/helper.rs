//! Credentials that docker's real helper for `pass` keeps, encrypted for a key of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::machine::{Machine, p1};
use crate::registry::{PASSWORD, Registry, USER};

/// A key, and a store of passwords.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let keys = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(keys.gnupg()).unwrap();
        let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
        std::fs::set_permissions(keys.gnupg(), private).unwrap();
        let whose = "samara@example.test";
        let quick = ["--quick-generate-key", whose, "future-default", "default", "never"];
        keys.run("gpg", &[&["--batch", "--pinentry-mode=loopback", "--passphrase", ""], &quick[..]].concat());
        keys.run("pass", &["init", whose]);
        keys
    }

    fn gnupg(&self) -> PathBuf {
        self.dir.path().join("gnupg")
    }

    /// A command that finds the key, the store and the helper.
    fn found_by<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
        assert!(tools.join("docker-credential-pass").is_file(), "docker-credential-pass is not built: `make tools`");
        let path = std::env::var("PATH").unwrap();
        let store = self.dir.path().join("passwords");
        command.env("PATH", format!("{}:{path}", tools.display())).env("HOME", self.dir.path());
        command.env("GNUPGHOME", self.gnupg()).env("PASSWORD_STORE_DIR", store)
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        let output = self.found_by(command.args(args)).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; `make setup` installs it"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // gpg has started it, and it would stay.
        let mut command = Command::new("gpgconf");
        let _ = self.found_by(command.args(["--kill", "gpg-agent"])).output();
    }
}

#[test]
fn what_login_gives_to_dockers_helper_is_used_and_logout_takes_it_away() {
    let (machine, registry, keys) = (Machine::new(), Registry::start(), Keys::new());
    std::fs::create_dir(machine.path("docker")).unwrap();
    let config = machine.path("docker/config.json");
    std::fs::write(&config, json!({ "credsStore": "pass" }).to_string()).unwrap();
    let samara = |args: &[&str], input: &str| {
        let given = machine.path("given");
        std::fs::write(&given, input).unwrap();
        let mut command = machine.command(args);
        keys.found_by(command.stdin(std::fs::File::open(given).unwrap())).output().unwrap()
    };
    let listed = || keys.run("docker-credential-pass", &["list"]).trim().to_owned();
    let name = registry.image("team/hello:v1");
    let login = ["login", "-u", USER, "--password-stdin", registry.host()];
    assert!(!samara(&login, "a guess").status.success());
    assert_eq!(listed(), "{}", "what is refused is not kept");
    let kept = samara(&login, PASSWORD);
    assert!(kept.status.success(), "{kept:?}");
    assert_eq!(listed(), json!({ registry.host(): USER }).to_string());
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(!text.contains(registry.host()), "it is in the file too: {text}");
    let pushed = samara(&["push", &p1("hello"), &name], "");
    assert!(pushed.status.success(), "{pushed:?}");
    assert_eq!(samara(&["pull", "-q", &name], "").stdout, pushed.stdout);
    let forgotten = samara(&["logout", registry.host()], "");
    assert!(forgotten.status.success(), "{forgotten:?}");
    assert_eq!(listed(), "{}");
    let refused = samara(&["pull", "-q", &name], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"), "{refused:?}");
}
