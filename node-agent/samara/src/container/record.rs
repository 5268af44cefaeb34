//! What the user asked for: `container.json`. Never changed after it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use samara_shim_client::client::RootMount;
use serde::{Deserialize, Serialize};

use crate::supervise::restart::RestartPolicy;

/// `container.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) name: String,
    /// As it was written: an image's name or a file's path.
    pub(crate) image: String,
    /// Of the image's manifest; none for a file.
    pub(crate) image_digest: Option<String>,
    /// With the program's name.
    pub(crate) command: Vec<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) restart: RestartPolicy,
    /// Goes when it has ended.
    pub(crate) remove: bool,
    /// Seconds between the stop signal and SIGKILL.
    pub(crate) stop_timeout: u32,
    pub(crate) stop_signal: u32,
    pub(crate) network: Network,
    /// Its own loopback address on a private network.
    pub(crate) address: Option<Ipv4Addr>,
    /// As asked: host port 0 is any.
    pub(crate) ports: Vec<Publication>,
    /// Standard input is kept open.
    pub(crate) interactive: bool,
    /// Its streams are a terminal.
    pub(crate) terminal: bool,
    /// Of the image's root file system, lowest first; empty for a module alone.
    pub(crate) layers: Vec<PathBuf>,
}

/// How a container is on the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// An address of its own; ports are reached from outside with -p; connections go out as the host's
    #[default]
    Private,
    /// The host's own addresses and ports
    Host,
    /// Nothing but its own loopback
    None,
}

/// `-p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Publication {
    /// Every address of the host if none is given.
    pub(crate) host_ip: Option<IpAddr>,
    /// 0: any free one.
    pub(crate) host_port: u16,
    pub(crate) guest_port: u16,
    pub(crate) protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}->{}/{protocol}", std::net::SocketAddr::new(ip, self.host_port), self.guest_port)
    }
}

/// As many characters of an id as people read.
pub(super) const SHORT_ID: usize = 12;

impl Record {
    /// Of a container of which nothing else can be read.
    pub(super) fn unknown(id: String, name: String) -> Self {
        Self {
            id,
            name,
            image: String::new(),
            image_digest: None,
            command: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            labels: BTreeMap::new(),
            restart: RestartPolicy::No,
            remove: false,
            stop_timeout: 10,
            stop_signal: 15,
            network: Network::Private,
            address: None,
            ports: Vec::new(),
            interactive: false,
            terminal: false,
            layers: Vec::new(),
        }
    }

    /// As much of the id as people read.
    pub(crate) fn short_id(&self) -> &str {
        &self.id[..SHORT_ID.min(self.id.len())]
    }

    /// The image's layers under a writable one in the container's directory; nothing for a module alone.
    pub(crate) fn rootfs(&self, dir: &Path) -> Vec<RootMount> {
        if self.layers.is_empty() {
            return Vec::new();
        }
        // overlayfs wants the top layer first.
        let lower = self.layers.iter().rev().map(|layer| layer.display().to_string()).collect::<Vec<_>>().join(":");
        vec![RootMount {
            typ: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                format!("lowerdir={lower}"),
                format!("upperdir={}", dir.join("upper").display()),
                format!("workdir={}", dir.join("work").display()),
            ],
        }]
    }
}

#[cfg(test)]
pub(crate) fn record(name: &str) -> Record {
    let image = "app.wasm".to_owned();
    Record { command: vec![image.clone()], image, ..Record::unknown("ab".repeat(32), name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_layer_comes_first_in_an_overlay() {
        let mut image = record("web");
        assert_eq!(image.rootfs(Path::new("/c")), []);
        image.layers = vec!["/l/1".into(), "/l/2".into()];
        let mounts = image.rootfs(Path::new("/c"));
        assert_eq!(mounts[0].options, ["lowerdir=/l/2:/l/1", "upperdir=/c/upper", "workdir=/c/work"]);
    }

    #[test]
    fn a_publication_reads_as_dockers() {
        let mut port = Publication { host_ip: None, host_port: 80, guest_port: 8080, protocol: Protocol::Tcp };
        assert_eq!(port.to_string(), "0.0.0.0:80->8080/tcp");
        port.host_ip = Some("::1".parse().unwrap());
        assert_eq!(port.to_string(), "[::1]:80->8080/tcp");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = serde_json::to_string(&record("web")).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record("web"));
    }
}
