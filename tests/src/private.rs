//! A registry that asks who is there, on a node's own loopback, with the run's images in it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cluster::{Cluster, tools_dir};
use crate::node::Node;
use crate::site::process::{Process, Program};
use crate::wait::{Seen, until};

/// Who is let in.
pub const USER: &str = "samara";
/// With this password; the other is its bcrypt hash.
pub const PASSWORD: &str = "open sesame";
/// Where it is for its node, whose loopback has nothing else there.
pub const ADDRESS: &str = "localhost:5001";
const LISTENS: &str = "127.0.0.1:5001";
const HTPASSWD: &str = "samara:$2b$04$Eo1AerRQ0aXMCGryBoIHnuZUKVMVDeN3gqt9iXb1E8m8hTJGPkcha\n";

/// A running one; it ends with the site.
#[derive(Debug)]
pub struct Private {
    _process: Process,
}

impl Private {
    /// Starts it in a node's namespace; `name` is for its files.
    pub async fn start(cluster: &Cluster, node: &Node, name: &str) -> Result<Self> {
        let directory = cluster.site().data_dir().join(format!("private-{name}"));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("htpasswd"), HTPASSWD)?;
        let mut config = with_the_runs_images(cluster);
        config["auth"] = json!({ "htpasswd": { "realm": "test", "path": directory.join("htpasswd") } });
        Ok(Self { _process: serve(cluster, node, &directory, LISTENS, config).await? })
    }
}

/// What the run's own registry has, read only.
pub(crate) fn with_the_runs_images(cluster: &Cluster) -> Value {
    json!({ "storage": {
        "filesystem": { "rootdirectory": cluster.site().data_dir().join("registry") },
        "maintenance": { "uploadpurging": { "enabled": false }, "readonly": { "enabled": true } },
    } })
}

/// Starts a registry in a node's namespace, with its files in a directory, and returns when it listens.
pub(crate) async fn serve(
    cluster: &Cluster,
    node: &Node,
    directory: &Path,
    listens: &str,
    mut config: Value,
) -> Result<Process> {
    config["version"] = json!(0.1);
    config["log"] = json!({ "level": "info", "formatter": "json", "accesslog": { "disabled": true } });
    config["http"] = json!({ "addr": listens });
    let file = directory.join("registry.yaml");
    fs::write(&file, serde_yaml_ng::to_string(&config)?)?;
    let log = directory.join("log");
    let program = Program::new(format!("the registry {}", directory.display()), tools_dir().join("registry"), &log);
    let program = program.arg("serve").arg(&file).env("OTEL_TRACES_EXPORTER", "none");
    let mut process = cluster.site().start(node.namespace(), program)?;
    until("the registry listens", Duration::from_secs(60), async || {
        process.check()?;
        Ok(Seen::when(says_that_it_listens(&log, listens), "not yet"))
    })
    .await?;
    Ok(process)
}

/// The name that a sample has in it.
pub fn image(sample: &str) -> String {
    crate::samples::image(sample).replace("localhost:5000", ADDRESS)
}

/// A pull secret for an address such as [`ADDRESS`].
pub fn secret(name: &str, address: &str, password: &str) -> Value {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    let config = json!({ "auths": { address: { "auth": auth } } }).to_string();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
        "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": config },
    })
}

fn says_that_it_listens(log: &Path, listens: &str) -> bool {
    let Ok(log) = File::open(log) else { return false };
    BufReader::new(log).lines().map_while(Result::ok).any(|line| line.contains(&format!("listening on {listens}")))
}

/// Writes a program that a shell runs.
pub fn script(path: &Path, text: &str) -> Result<PathBuf> {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(path.to_owned())
}
