//! Where the time of a pod's start goes: `samara node --trace-starts FILE`.
//!
//! The file gets one line of JSON for each pod, when the API server has taken the status that says it is ready:
//!
//! ```json
//! {"namespace":"shop","name":"web-0","uid":"...","seenAt":"2026-11-21T04:10:13.123456Z","readyUs":9312,"spans":[
//!   {"phase":"dispatch","atUs":0,"tookUs":85},
//!   {"phase":"image","container":"web","atUs":2211,"tookUs":140}]}
//! ```
//! Times are microseconds since the pod's watch event was read; `readyUs` is the end of the patch. Spans may overlap, and a
//! phase comes more than once where it is done more than once. The phases, in the order in which a pod meets them:
//!
//! | phase | from | to |
//! |---|---|---|
//! | `dispatch` | watch event | its worker's first look: admission, and the search for what an earlier agent left |
//! | `network` | | address and name |
//! | `objects` | | ConfigMaps, Secrets and Services are known, tokens are there |
//! | `volumes` | | volumes and `/etc` files are written |
//! | `image` | | pulled and compiled, or found (of a container, as are the next three) |
//! | `bundle` | | environment, OCI spec, bundle |
//! | `start` | the create leaves | the guest runs (create and start are one round trip) |
//! | `readiness` | the guest runs | probes and hook found it ready (where it has any) |
//! | `status` | | a patch before the pod was ready |
//! | `ready` | | the patch that says so |
//!
//! Nothing is measured without the flag.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use crate::pods::PodRef;

/// The starts under way. Cheap to clone; by default it measures nothing.
#[derive(Debug, Clone, Default)]
pub struct Starts(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    file: Mutex<File>,
    /// `None`: it was ready once, and is told of no more.
    pods: Mutex<HashMap<Arc<str>, Option<Start>>>,
}

#[derive(Debug)]
struct Start {
    pod: PodRef,
    seen: Instant,
    seen_at: Timestamp,
    spans: Vec<Span>,
}

/// A part of the way. The names are the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Dispatch,
    Network,
    Objects,
    Volumes,
    Image,
    Bundle,
    Start,
    Readiness,
    Status,
    Ready,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    at_us: u64,
    took_us: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    seen_at: Timestamp,
    ready_us: u64,
    spans: &'a [Span],
}

/// Measures until it is dropped.
#[derive(Debug)]
pub struct Stopwatch<'a> {
    starts: &'a Starts,
    uid: &'a str,
    phase: Phase,
    container: Option<&'a str>,
    begun: Instant,
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        self.starts.took(self.uid, self.phase, self.container, self.begun);
    }
}

impl Starts {
    /// Appends to a file.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Some(Arc::new(Inner { file: Mutex::new(file), pods: Mutex::default() }))))
    }

    /// A pod that does not run yet was read from the watch.
    pub fn seen(&self, pod: &PodRef) {
        let Some(mut pods) = self.pods() else { return };
        pods.entry(pod.uid.clone()).or_insert_with(|| {
            Some(Start { pod: pod.clone(), seen: Instant::now(), seen_at: Timestamp::now(), spans: Vec::new() })
        });
    }

    /// The phase begins now and ends when what is given back is dropped.
    pub fn measure<'a>(&'a self, uid: &'a str, phase: Phase, container: Option<&'a str>) -> Stopwatch<'a> {
        Stopwatch { starts: self, uid, phase, container, begun: Instant::now() }
    }

    /// The phase began then and ends now.
    pub fn took(&self, uid: &str, phase: Phase, container: Option<&str>, begun: Instant) {
        let Some(mut pods) = self.pods() else { return };
        if let Some(Some(start)) = pods.get_mut(uid) {
            let (at_us, took_us) = (micros(start.seen, begun), micros(begun, Instant::now()));
            start.spans.push(Span { phase, container: container.map(str::to_owned), at_us, took_us });
        }
    }

    /// The pod was seen, and its phase ends now.
    pub fn dispatched(&self, uid: &str) {
        let seen = self.pods().and_then(|pods| Some(pods.get(uid)?.as_ref()?.seen));
        if let Some(seen) = seen {
            self.took(uid, Phase::Dispatch, None, seen);
        }
    }

    /// The API server knows that it is ready: its line is written.
    pub fn ready(&self, uid: &str) {
        let start = self.pods().and_then(|mut pods| pods.get_mut(uid)?.take());
        let (Some(start), Some(inner)) = (start, &self.0) else { return };
        let mut spans = start.spans;
        spans.sort_by_key(|span| (span.at_us, span.phase));
        let line = Line {
            namespace: &start.pod.namespace,
            name: &start.pod.name,
            uid,
            seen_at: start.seen_at,
            ready_us: micros(start.seen, Instant::now()),
            spans: &spans,
        };
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        if let Err(error) = lock(&inner.file).write_all(&text) {
            tracing::warn!(%error, "the trace of a start is lost");
        }
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &str) {
        if let Some(mut pods) = self.pods() {
            pods.remove(uid);
        }
    }

    fn pods(&self) -> Option<MutexGuard<'_, HashMap<Arc<str>, Option<Start>>>> {
        self.0.as_ref().map(|inner| lock(&inner.pods))
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn pod(uid: &str) -> PodRef {
        PodRef { uid: uid.into(), namespace: "shop".into(), name: "web".into() }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_pod_that_became_ready_is_one_line_with_its_phases_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("starts.json");
        let starts = Starts::to_file(&path).unwrap();
        starts.seen(&pod("u"));
        let outer = Instant::now();
        drop(starts.measure("u", Phase::Image, Some("app")));
        starts.took("u", Phase::Objects, None, outer);
        starts.dispatched("u");
        starts.ready("u");
        starts.seen(&pod("u"));
        starts.ready("u");
        let written = lines(&path);
        assert_eq!(written.len(), 1, "a pod starts once");
        let line = &written[0];
        assert_eq!((&line["namespace"], &line["name"], &line["uid"]), (&"shop".into(), &"web".into(), &"u".into()));
        let phases: Vec<_> = line["spans"].as_array().unwrap().iter().map(|span| span["phase"].clone()).collect();
        assert_eq!(phases, ["dispatch", "objects", "image"]);
        assert_eq!(line["spans"][2]["container"], "app");
        assert!(line["spans"][0]["tookUs"].as_u64() <= line["readyUs"].as_u64());
        assert!(line["seenAt"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }

    #[test]
    fn what_was_never_seen_or_is_gone_is_not_written_and_nothing_is_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("starts.json");
        let starts = Starts::to_file(&path).unwrap();
        starts.took("stranger", Phase::Status, None, Instant::now());
        starts.ready("stranger");
        starts.seen(&pod("gone"));
        starts.forget("gone");
        starts.ready("gone");
        assert_eq!(lines(&path), Vec::<Value>::new());
        let off = Starts::default();
        off.seen(&pod("u"));
        drop(off.measure("u", Phase::Image, None));
        off.ready("u");
    }
}
