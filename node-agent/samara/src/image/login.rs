//! `samara login` and `logout`: credentials in docker's own file, or with the helper that it names.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use samara_images::{Credential, Pusher, RegistryFailure};
use serde_json::{Map, Value, json};

use super::auth::{self, Secret};
use super::registries::Registries;
use super::store::install_tls;

/// What `samara login` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara login registry.example
  echo $TOKEN | samara login -u robot --password-stdin ghcr.io

They are kept where docker keeps them ($DOCKER_CONFIG/config.json or ~/.docker/config.json): with the credential helper
that the file names, else in the file itself, readable to you alone. The registry is asked first whether it takes them.")]
pub(crate) struct LoginArgs {
    /// Host (and port) of the registry
    #[arg(default_value = "docker.io")]
    registry: String,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    registries: Registries,
}

/// What `samara logout` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara logout registry.example")]
pub(crate) struct LogoutArgs {
    /// Host (and port) of the registry
    #[arg(default_value = "docker.io")]
    registry: String,
}

pub(crate) fn login(args: LoginArgs) -> Result<ExitCode> {
    let host = host(&args.registry)?.to_owned();
    let server = auth::server(&host);
    let username = match args.username {
        Some(name) => name,
        None if args.password_stdin => bail!("--password-stdin needs -u: whose password is it?"),
        None => ask("Username: ", Echo::On)?,
    };
    let password = if args.password_stdin {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("read the password")?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        ask("Password: ", Echo::Off)?
    };
    if username.is_empty() || password.is_empty() || username.contains(':') {
        bail!("user name and password must not be empty, and the name has no colon");
    }
    check(&args.registries, &host, &username, &password)?;
    let config = auth::read_config()?;
    if let Some(helper) = auth::helper_for(&config, &server)? {
        let secret = Secret { server_url: server, username, secret: password };
        auth::call(&helper, "store", &serde_json::to_vec(&secret)?)?;
    } else {
        write(&with(&config, &server, Some((&username, &password)))?)?;
    }
    eprintln!("kept for {}", args.registry);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn logout(args: LogoutArgs) -> Result<ExitCode> {
    let server = auth::server(host(&args.registry)?);
    let config = auth::read_config()?;
    if let Some(helper) = auth::helper_for(&config, &server)? {
        auth::call(&helper, "erase", server.as_bytes())?;
    }
    write(&with(&config, &server, None)?)?;
    eprintln!("nothing is kept for {} any more", args.registry);
    Ok(ExitCode::SUCCESS)
}

/// Asks the registry: what it refuses is not kept.
fn check(registries: &Registries, registry: &str, username: &str, password: &str) -> Result<()> {
    install_tls();
    let credential = Credential::Basic { username: username.to_owned(), password: password.to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(Pusher::new(registries.config()?).log_in(registry, &credential));
    asked.map_err(|error| {
        let what = match is_refusal(&error.failure) {
            true => "nothing is kept: the user name or the password (or token) is wrong",
            false => "nothing is kept: the registry could not be asked",
        };
        anyhow::Error::new(error).context(what)
    })
}

fn is_refusal(failure: &RegistryFailure) -> bool {
    match failure {
        RegistryFailure::Unauthorized(_) | RegistryFailure::Denied(_) => true,
        RegistryFailure::TokenService { failure, .. } => is_refusal(failure),
        RegistryFailure::Unreachable(_)
        | RegistryFailure::Timeout(_)
        | RegistryFailure::BrokeOff(_)
        | RegistryFailure::NotFound(_)
        | RegistryFailure::RateLimited { .. }
        | RegistryFailure::Server { .. }
        | RegistryFailure::Unexpected(_)
        | RegistryFailure::Digest(_)
        | RegistryFailure::Configuration(_) => false,
    }
}

/// A host, not an image or address of a page.
fn host(registry: &str) -> Result<&str> {
    let host = registry.trim_start_matches("https://").trim_end_matches('/');
    if host.is_empty() || host.contains('/') || host.contains(char::is_whitespace) {
        bail!("{registry:?} is not a registry: write its host, such as ghcr.io or localhost:5000");
    }
    Ok(host)
}

/// The file with other credentials for one server; all else stays as it is.
fn with(config: &[u8], server: &str, credentials: Option<(&str, &str)>) -> Result<Vec<u8>> {
    let mut config: Map<String, Value> = serde_json::from_slice(config).context("read config.json")?;
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    let auths = auths.as_object_mut().context("read config.json: auths is not an object")?;
    match credentials {
        Some((user, password)) => {
            auths.insert(server.to_owned(), json!({ "auth": STANDARD.encode(format!("{user}:{password}")) }))
        }
        None => auths.remove(server),
    };
    Ok(serde_json::to_vec_pretty(&config)?)
}

fn write(config: &[u8]) -> Result<()> {
    let path = auth::config_path().context("there is no HOME to keep credentials in: set DOCKER_CONFIG")?;
    write_to(&path, config).with_context(|| format!("write {}", path.display()))
}

/// For its owner alone, and as a whole. A link stays, and what it leads to is written, as docker does.
fn write_to(path: &Path, config: &[u8]) -> io::Result<()> {
    let beside = |path: &Path| path.parent().unwrap_or(Path::new(".")).to_owned();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(beside(path))?;
    let path = match (path.canonicalize(), fs::read_link(path)) {
        (Ok(real), _) => real,
        // It leads to a file that is still to be made.
        (Err(_), Ok(target)) => beside(path).join(target),
        (Err(_), Err(_)) => path.to_owned(),
    };
    let temporary = path.with_extension(format!("json.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(config)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

fn ask(question: &str, echo: Echo) -> Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask on: -u NAME --password-stdin");
    }
    eprint!("{question}");
    let before = tcgetattr(&stdin)?;
    if echo == Echo::Off {
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if echo == Echo::Off {
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
        eprintln!();
    }
    read.context("read the answer")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_is_in_the_file_stays() {
        let before = br#"{"auths":{"a":{"auth":"eA=="}},"proxies":{"x":1}}"#;
        let after: Value = serde_json::from_slice(&with(before, "b", Some(("u", "p:w"))).unwrap()).unwrap();
        let expected = json!({"auths": {"a": {"auth": "eA=="}, "b": {"auth": "dTpwOnc="}}, "proxies": {"x": 1}});
        assert_eq!(after, expected);
        let gone: Value = serde_json::from_slice(&with(before, "a", None).unwrap()).unwrap();
        assert_eq!(gone, json!({"auths": {}, "proxies": {"x": 1}}));
        assert!(with(b"[]", "a", None).is_err());
        assert!(with(br#"{"auths":[]}"#, "a", None).is_err());
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dotfiles")).unwrap();
        let (link, real) = (dir.path().join("docker/config.json"), dir.path().join("dotfiles/docker.json"));
        write_to(&link, b"{}").unwrap();
        assert!(!link.is_symlink(), "a file without a link is a file");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("../dotfiles/docker.json", &link).unwrap();
        for text in ["first", "second"] {
            write_to(&link, text.as_bytes()).unwrap();
            assert!(link.is_symlink() && real.is_file() && !real.is_symlink());
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
        }
    }

    #[test]
    fn a_registry_is_a_host() {
        for (text, host) in [("ghcr.io", "ghcr.io"), ("https://localhost:5000/", "localhost:5000")] {
            assert_eq!(super::host(text).unwrap(), host);
        }
        for bad in ["", "ghcr.io/team/app", "a b"] {
            assert!(super::host(bad).is_err(), "{bad}");
        }
    }
}
