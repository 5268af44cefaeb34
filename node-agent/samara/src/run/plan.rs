//! From what is wanted and the program to the container's record and its OCI configuration. Pure.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use jiff::Timestamp;
use oci_spec::runtime::Spec;

use super::program::Program;
use super::spec;
use super::wanted::Wanted;
use crate::container::{Network, Record};
use crate::supervise::ports;
use crate::verbs::signal;

/// What it needs of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) id: String,
    /// For a container that is given none.
    pub(super) name: String,
    pub(super) now: Timestamp,
    /// Where named volumes are.
    pub(super) volumes: PathBuf,
    /// For guests on the private network; empty: the host's own serve.
    pub(super) dns: Vec<IpAddr>,
}

/// Decides what the container is to be.
pub(super) fn plan(wanted: &Wanted, program: &Program, host: &Host) -> Result<(Record, Spec)> {
    let address = wanted.address.unwrap_or_else(|| ports::address(&host.id));
    let mut labels = program.labels();
    labels.extend(wanted.labels.clone());
    let record = Record {
        id: host.id.clone(),
        name: wanted.name.clone().unwrap_or_else(|| host.name.clone()),
        image: wanted.image.clone(),
        image_digest: program.digest(),
        command: arguments(wanted, program)?,
        created_at: host.now,
        labels,
        restart: wanted.restart,
        remove: wanted.remove,
        stop_timeout: wanted.stop_timeout,
        // An image's mistake is not its user's.
        stop_signal: signal::parse(program.stop_signal()).unwrap_or(15),
        network: wanted.network,
        address: (wanted.network == Network::Private).then_some(address),
        ports: wanted.ports.clone(),
        interactive: wanted.interactive,
        terminal: wanted.terminal,
        layers: program.layers(),
    };
    let spec = spec::spec(&record, wanted, program, host)?;
    Ok((record, spec))
}

/// As docker does: arguments replace the image's command; another entrypoint drops it.
fn arguments(wanted: &Wanted, program: &Program) -> Result<Vec<String>> {
    let mut all = wanted.entrypoint.clone().unwrap_or_else(|| program.entrypoint());
    if !wanted.args.is_empty() {
        all.extend(wanted.args.iter().cloned());
    } else if wanted.entrypoint.is_none() {
        all.extend(program.cmd().iter().cloned());
    }
    if all.is_empty() {
        bail!("the image {} names no program: give one after it, or --entrypoint", wanted.image);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted { image: "app.wasm".into(), name: Some("web".into()), stop_timeout: 10, ..Wanted::default() }
    }

    fn planned(wanted: &Wanted) -> (Record, serde_json::Value) {
        let program = Program::File { path: "/w/app.wasm".into(), name: "app.wasm".into() };
        let host = Host {
            id: "1234".repeat(16),
            name: "brisk_otter_42".into(),
            now: Timestamp::UNIX_EPOCH,
            volumes: "/v".into(),
            dns: vec!["192.0.2.53".parse().unwrap()],
        };
        let (record, spec) = plan(wanted, &program, &host).unwrap();
        (record, serde_json::to_value(spec).unwrap())
    }

    #[test]
    fn arguments_follow_the_program_and_an_entrypoint_replaces_it() {
        let command = |wanted: Wanted| planned(&wanted).0.command;
        assert_eq!(command(wanted()), ["app.wasm"]);
        assert_eq!(command(Wanted { args: vec!["-x".into()], ..wanted() }), ["app.wasm", "-x"]);
        let other = Wanted { entrypoint: Some(vec!["/other".into()]), args: vec!["-x".into()], ..wanted() };
        assert_eq!(command(other), ["/other", "-x"]);
        let none = Wanted { entrypoint: Some(vec![]), args: vec!["/arg".into(), "-x".into()], ..wanted() };
        assert_eq!(command(none), ["/arg", "-x"]);
    }

    #[test]
    fn a_container_has_an_address_of_its_own_unless_it_has_the_hosts_or_none() {
        let of = |network| planned(&Wanted { network, ..wanted() });
        let (record, spec) = of(Network::Private);
        assert_eq!(record.address.unwrap().to_string(), "127.116.18.52");
        assert_eq!(spec["annotations"]["samara.dev/pod-ips"], "127.116.18.52");
        assert_eq!(spec["annotations"]["samara.dev/pod-loopback"], "127.244.18.52");
        assert_eq!(spec["annotations"]["samara.dev/dns-servers"], "192.0.2.53");
        let kinds = |spec: &serde_json::Value| spec["linux"]["namespaces"].as_array().unwrap().len();
        let (record, host) = of(Network::Host);
        assert_eq!(host["annotations"]["samara.dev/dns-servers"], serde_json::Value::Null);
        assert_eq!((record.address, &host["annotations"]["samara.dev/pod-ips"]), (None, &serde_json::Value::Null));
        assert_eq!(kinds(&host), kinds(&spec));
        let (record, none) = of(Network::None);
        assert_eq!((record.address, kinds(&none)), (None, kinds(&spec) + 1));
    }

    #[test]
    fn an_http_guest_listens_on_the_first_published_port() {
        let port = |publish: &[&str]| {
            let ports = publish.iter().map(|text| crate::run::flag::publish::parse(text).unwrap()).collect();
            planned(&Wanted { ports, ..wanted() }).1["annotations"]["samara.dev/http-port"].clone()
        };
        assert_eq!(port(&[]), "8080");
        assert_eq!(port(&["80:3000", "81:3001"]), "3000");
    }
}
