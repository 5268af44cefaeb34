//! Containers of pods, as all verbs that look at containers see them: found in the bundles that the node made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use oci_spec::runtime::Spec;
use samara_agent::shims;
use samara_shim_client::annotations;

use super::home::{Home, Name, Play, name_of};
use crate::container::{Container, Ended, Member, Network, Phase, Protocol, Publication, Record, State};
use crate::place::Place;
use crate::supervise::restart::RestartPolicy;

/// The newest attempt of each container of each pod.
pub(crate) fn all(place: &Place) -> Result<Vec<Container>> {
    let home = Home::of(place);
    let bundles = entries(&home.run().join("bundles"))?;
    if bundles.is_empty() {
        return Ok(Vec::new());
    }
    let known = Known { statuses: home.statuses()?, plays: home.plays()? };
    let mut newest: BTreeMap<String, (u32, Container)> = BTreeMap::new();
    for pod in bundles {
        for bundle in entries(&pod)? {
            let Some((attempt, container)) = member(&home, &known, &bundle)? else { continue };
            let known = newest.get(&container.record.name).map(|(attempt, _)| *attempt);
            if known.is_none_or(|known| known < attempt) {
                newest.insert(container.record.name.clone(), (attempt, container));
            }
        }
    }
    Ok(newest.into_values().map(|(_, container)| container).collect())
}

/// What else is known of pods.
struct Known {
    statuses: BTreeMap<Name, Pod>,
    plays: Vec<Play>,
}

impl Known {
    /// Whether a container that has ended is started again.
    fn restarts(&self, pod: &Name, container: &str) -> bool {
        let status = self.statuses.get(pod).and_then(|pod| pod.status.as_ref());
        let all = status.into_iter().flat_map(|status| {
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
        });
        let state = all.filter(|one| one.name == container).find_map(|one| one.state.as_ref());
        state.is_some_and(|state| state.waiting.is_some())
    }

    /// Its `hostPort`s.
    fn ports(&self, pod: &Name, container: &str) -> Vec<Publication> {
        let pods = self.plays.iter().flat_map(|play| &play.pods);
        let spec = pods.filter(|one| name_of(one) == *pod).find_map(|pod| pod.spec.as_ref());
        let containers =
            spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let ports = containers.filter(|one| one.name == container).flat_map(|one| one.ports.iter().flatten());
        let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
        let publication = |port: &ContainerPort| {
            Some(Publication {
                host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
                host_port: number(port.host_port?)?,
                guest_port: number(port.container_port)?,
                protocol: if port.protocol.as_deref() == Some("UDP") { Protocol::Udp } else { Protocol::Tcp },
            })
        };
        ports.filter_map(publication).collect()
    }
}

/// `None`: it is being made, or removed.
fn member(home: &Home, known: &Known, bundle: &Path) -> Result<Option<(u32, Container)>> {
    let Some(own) = shims::Record::read(bundle)? else { return Ok(None) };
    let Ok(spec) = Spec::load(bundle.join("config.json")) else { return Ok(None) };
    let note = |key| spec.annotations().as_ref().and_then(|notes| notes.get(key)).cloned();
    let pod = note(annotations::POD_NAME).unwrap_or_default();
    let named = (note(annotations::POD_NAMESPACE).unwrap_or_default(), pod.clone());
    let ports = known.ports(&named, &own.name);
    let process = spec.process().clone().unwrap_or_default();
    let address = note(annotations::POD_IPS).and_then(|ips| ips.split(',').next()?.parse().ok());
    let record = Record {
        id: own.id.clone(),
        name: format!("{pod}-{}", own.name),
        image: own.image.clone(),
        image_digest: own.image_id.rsplit_once('@').map(|(_, digest)| digest.to_owned()),
        command: process.args().clone().unwrap_or_default(),
        created_at: own.started_at.unwrap_or(Timestamp::UNIX_EPOCH),
        labels: BTreeMap::from([
            ("io.kubernetes.pod.name".to_owned(), pod.clone()),
            ("io.kubernetes.pod.namespace".to_owned(), note(annotations::POD_NAMESPACE).unwrap_or_default()),
            ("io.kubernetes.container.name".to_owned(), own.name.clone()),
        ]),
        restart: RestartPolicy::No,
        remove: false,
        stop_timeout: note(annotations::GRACE_PERIOD).and_then(|seconds| seconds.parse().ok()).unwrap_or(30),
        stop_signal: 15,
        network: if address.is_some() { Network::Private } else { Network::Host },
        address,
        ports: ports.clone(),
        interactive: false,
        terminal: process.terminal().unwrap_or_default(),
        layers: Vec::new(),
    };
    let ended = own.ended.map(|ended| Ended {
        exit_code: u8::try_from(ended.exit_code).unwrap_or(255),
        oom_killed: ended.oom_killed,
        message: ended.message,
        finished_at: ended.finished_at,
    });
    let phase = match (own.started_at, &ended) {
        (_, Some(_)) => Phase::Exited,
        (Some(_), None) => Phase::Running,
        (None, None) => Phase::Created,
    };
    let state = State { phase, supervisor: None, restarts: own.attempt, started_at: own.started_at, ended, ports };
    let restarts = phase == Phase::Exited && known.restarts(&named, &own.name);
    let front = home.run().join("fronts").join(own.front.to_string());
    Ok(Some((own.attempt, Container::of_pod(bundle, record, Member { pod, state, front, log: own.log, restarts }))))
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.with_context(|| format!("read {}", dir.display()))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    paths.with_context(|| format!("read {}", dir.display()))
}
