//! Containers of pods, as all verbs that look at containers see them: found in the bundles that the node made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    // By the directory of the pod, and the container's name in it.
    let mut newest: BTreeMap<(PathBuf, String), (u32, Container)> = BTreeMap::new();
    for pod in bundles {
        for bundle in entries(&pod)? {
            let Some((attempt, container)) = member(&home, &known, &bundle)? else { continue };
            let [_, _, name] = identity(&container);
            let key = (pod.clone(), name);
            let known = newest.get(&key).map(|(attempt, _)| *attempt);
            if known.is_none_or(|known| known < attempt) {
                newest.insert(key, (attempt, container));
            }
        }
    }
    let mut all: Vec<_> = newest.into_values().map(|(_, container)| container).collect();
    tell_apart(&mut all);
    all.sort_by(|one, other| one.record.name.cmp(&other.record.name));
    Ok(all)
}

/// Those that would share a name have one with their namespace, with underscores, which no name of Kubernetes has. Pure.
fn tell_apart(all: &mut [Container]) {
    let mut named: BTreeMap<String, BTreeSet<[String; 3]>> = BTreeMap::new();
    for container in &*all {
        named.entry(container.record.name.clone()).or_default().insert(identity(container));
    }
    for container in all {
        if named.get(&container.record.name).is_some_and(|sharing| sharing.len() > 1) {
            container.record.name = identity(container).join("_");
        }
    }
}

const POD_LABEL: &str = "io.kubernetes.pod.name";
const NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";
const CONTAINER_LABEL: &str = "io.kubernetes.container.name";

/// Namespace, pod, container.
fn identity(container: &Container) -> [String; 3] {
    [NAMESPACE_LABEL, POD_LABEL, CONTAINER_LABEL]
        .map(|label| container.record.labels.get(label).cloned().unwrap_or_default())
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
            (POD_LABEL.to_owned(), pod.clone()),
            (NAMESPACE_LABEL.to_owned(), note(annotations::POD_NAMESPACE).unwrap_or_default()),
            (CONTAINER_LABEL.to_owned(), own.name.clone()),
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

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.with_context(|| format!("read {}", dir.display()))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    paths.with_context(|| format!("read {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn bundle(home: &Home, [namespace, pod, container]: [&str; 3], attempt: u32) {
        let uid = format!("{namespace}.{pod}");
        let dir = home.run().join("bundles").join(uid).join(format!("{container}_{attempt}"));
        fs::create_dir_all(&dir).unwrap();
        let mut spec = Spec::default();
        let notes = [(annotations::POD_NAMESPACE, namespace), (annotations::POD_NAME, pod)];
        let notes: HashMap<_, _> = notes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        spec.set_annotations(Some(notes));
        spec.save(dir.join("config.json")).unwrap();
        let record = shims::Record {
            id: format!("{namespace}{pod}{container}{attempt}"),
            name: container.to_owned(),
            init: false,
            attempt,
            image: "i".to_owned(),
            image_id: "i".to_owned(),
            spec_hash: String::new(),
            front: 1,
            log: PathBuf::from("/log"),
            started_at: None,
            ended: None,
        };
        record.write(&dir).unwrap();
    }

    #[test]
    fn containers_that_would_share_a_name_are_all_there_each_in_its_newest_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path().join("root"), dir.path().join("run"));
        let home = Home::of(&place);
        for (identity, attempt) in [
            (["a", "web", "app"], 2),
            (["a", "web", "app"], 10),
            (["b", "web", "app"], 0),
            (["default", "x-y", "z"], 0),
            (["default", "x", "y-z"], 0),
            (["default", "web", "own"], 0),
        ] {
            bundle(&home, identity, attempt);
        }
        let found: Vec<_> = all(&place).unwrap().into_iter().map(|one| (one.record.name, one.record.id)).collect();
        let expected = [
            ("a_web_app", "awebapp10"),
            ("b_web_app", "bwebapp0"),
            ("default_x-y_z", "defaultx-yz0"),
            ("default_x_y-z", "defaultxy-z0"),
            ("web-own", "defaultwebown0"),
        ];
        assert_eq!(found, expected.map(|(name, id)| (name.to_owned(), id.to_owned())));
    }
}
