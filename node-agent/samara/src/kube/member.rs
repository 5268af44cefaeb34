//! Containers of pods, as all verbs that look at containers see them: found in the bundles that the node made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use oci_spec::runtime::Spec;
use samara_agent::shims;
use samara_shim_client::annotations;

use super::home::Home;
use crate::container::{Container, Ended, Member, Network, Phase, Record, State};
use crate::place::Place;
use crate::supervise::restart::RestartPolicy;

/// The newest attempt of each container of each pod.
pub(crate) fn all(place: &Place) -> Result<Vec<Container>> {
    let home = Home::of(place);
    let bundles = home.run().join("bundles");
    let mut newest: BTreeMap<String, (u32, Container)> = BTreeMap::new();
    for pod in entries(&bundles)? {
        for bundle in entries(&pod)? {
            let Some((attempt, container)) = member(&home, &bundle)? else { continue };
            let known = newest.get(&container.record.name).map(|(attempt, _)| *attempt);
            if known.is_none_or(|known| known < attempt) {
                newest.insert(container.record.name.clone(), (attempt, container));
            }
        }
    }
    Ok(newest.into_values().map(|(_, container)| container).collect())
}

/// `None`: it is being made, or removed.
fn member(home: &Home, bundle: &Path) -> Result<Option<(u32, Container)>> {
    let Some(own) = shims::Record::read(bundle)? else { return Ok(None) };
    let Ok(spec) = Spec::load(bundle.join("config.json")) else { return Ok(None) };
    let note = |key| spec.annotations().as_ref().and_then(|notes| notes.get(key)).cloned();
    let pod = note(annotations::POD_NAME).unwrap_or_default();
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
        ports: Vec::new(),
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
    let state =
        State { phase, supervisor: None, restarts: own.attempt, started_at: own.started_at, ended, ports: Vec::new() };
    let front = home.run().join("fronts").join(own.front.to_string());
    Ok(Some((own.attempt, Container::of_pod(bundle, record, Member { pod, state, front, log: own.log }))))
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
