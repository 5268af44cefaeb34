//! What the node gives every pod: the service account's files and where the API server is.

use std::{env, fs};

const DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Debug)]
pub struct Account {
    /// `host:port`, an IPv6 address in brackets.
    pub server: String,
    pub namespace: String,
    pub token: String,
}

pub fn read() -> Result<Account, String> {
    let authority = file("ca.crt")?;
    if !authority.contains("-----BEGIN CERTIFICATE-----") {
        return Err(format!("{DIRECTORY}/ca.crt holds no certificate"));
    }
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT")?;
    let server = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Ok(Account {
        server,
        namespace: file("namespace")?,
        token: file("token")?,
    })
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("environment variable {name}: {error}"))
}

fn file(name: &str) -> Result<String, String> {
    let path = format!("{DIRECTORY}/{name}");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim().to_owned())
}
