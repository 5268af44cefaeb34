//! All places that pods come from, as one stream: the API server's watch, and manifests on this node's disk.
//!
//! ```text
//!  API watch ── pods ─────────────────────────────▶┐
//!      │                                           ├─▶ dispatch
//!      └── mirrors ──▶ [`Sources`] ◀── manifests ──┘      (a static pod, and whom to tell of it)
//!                          │
//!                          └──▶ mirrors made and deleted
//! ```
//! A mirror is never run: it is the API object to which the static pod's status is told. Its changes come back as changes
//! of the static pod.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use samara_core::statics::{MirrorAction, hash_of, mirror_action, mirrored, with_mirror};

use super::PodRef;
use super::watch::Change;

/// What the dispatcher hears.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Applied(Arrival),
    Gone(PodRef),
    /// Of all sources.
    Complete(HashSet<Arc<str>>),
}

/// A pod is there, or has changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arrival {
    pub(super) pod_ref: PodRef,
    pub(super) pod: Arc<Pod>,
    pub(super) origin: Origin,
    /// The object that is told of it; `None`: there is none yet.
    pub(super) tell: Option<PodRef>,
}

impl Arrival {
    /// Of a pod that ends here and begins again: what its mirror tells of its earlier life is no past of this one.
    pub(super) fn anew(self) -> Self {
        if self.origin == Origin::Api {
            return self;
        }
        let pod = Pod { status: None, ..Pod::clone(&self.pod) };
        Self { pod: Arc::new(pod), ..self }
    }
}

/// Where a pod came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Api,
    Manifest,
}

/// Namespace and name: what a mirror and its static pod have in common.
pub(super) type FullName = (Arc<str>, Arc<str>);

/// What is known of all sources. Pure.
#[derive(Debug)]
pub(super) struct Sources {
    alone: bool,
    complete: BTreeSet<Origin>,
    expected: BTreeSet<Origin>,
    there: BTreeMap<Origin, HashSet<Arc<str>>>,
    statics: BTreeMap<FullName, (PodRef, Arc<Pod>)>,
    mirrors: BTreeMap<FullName, (PodRef, Arc<Pod>)>,
    /// Static pods whose manifests are gone or changed, by the name that their mirrors have.
    ending: BTreeMap<FullName, BTreeSet<Arc<str>>>,
    /// What an earlier agent told of pods that did not arrive yet.
    told_before: BTreeMap<Arc<str>, PodStatus>,
}

impl Sources {
    /// `expected`: without the first word of one of these nobody knows which pods there are. Without an API server static
    /// pods are told of under their own names.
    pub(super) fn new(expected: impl IntoIterator<Item = Origin>, told_before: BTreeMap<Arc<str>, PodStatus>) -> Self {
        let expected: BTreeSet<Origin> = expected.into_iter().collect();
        Self {
            alone: !expected.contains(&Origin::Api),
            complete: BTreeSet::new(),
            expected,
            there: BTreeMap::new(),
            statics: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            ending: BTreeMap::new(),
            told_before,
        }
    }

    /// A source's word becomes the dispatcher's.
    pub(super) fn take(&mut self, origin: Origin, change: Change) -> Option<Heard> {
        match (origin, change) {
            (Origin::Api, Change::Applied(mirror, pod)) if mirrored(&pod).is_some() => {
                let name = full_name(&mirror);
                self.mirrors.insert(name.clone(), (mirror, pod));
                let (pod_ref, pod) = self.statics.get(&name)?.clone();
                self.fitting_mirror(&pod_ref).is_some().then(|| Heard::Applied(self.arrival(pod_ref, pod)))
            }
            (Origin::Api, Change::Applied(pod_ref, pod)) => {
                self.there.entry(origin).or_default().insert(pod_ref.uid.clone());
                Some(Heard::Applied(Arrival { tell: Some(pod_ref.clone()), pod_ref, pod, origin }))
            }
            (Origin::Manifest, Change::Applied(pod_ref, pod)) => {
                self.there.entry(origin).or_default().insert(pod_ref.uid.clone());
                let name = full_name(&pod_ref);
                // Back before it had ended: it begins anew, and its mirror shows that.
                if let Some(uids) = self.ending.get_mut(&name) {
                    uids.remove(&pod_ref.uid);
                }
                self.statics.insert(name, (pod_ref.clone(), pod.clone()));
                Some(Heard::Applied(self.arrival(pod_ref, pod)))
            }
            (Origin::Api, Change::Gone(pod_ref)) => {
                let name = full_name(&pod_ref);
                if self.mirrors.get(&name).is_some_and(|(mirror, _)| mirror.uid == pod_ref.uid) {
                    self.mirrors.remove(&name);
                    return None;
                }
                self.there.entry(origin).or_default().remove(&pod_ref.uid);
                Some(Heard::Gone(pod_ref))
            }
            (Origin::Manifest, Change::Gone(pod_ref)) => {
                let name = full_name(&pod_ref);
                self.there.entry(origin).or_default().remove(&pod_ref.uid);
                if self.statics.get(&name).is_some_and(|(other, _)| other.uid == pod_ref.uid) {
                    self.statics.remove(&name);
                }
                self.ending.entry(name).or_default().insert(pod_ref.uid.clone());
                Some(Heard::Gone(pod_ref))
            }
            (origin, Change::Complete(there)) => {
                if origin == Origin::Api {
                    self.mirrors.retain(|_, (mirror, _)| there.contains(&mirror.uid));
                }
                self.there.insert(origin, there);
                self.complete.insert(origin);
                // Whoever comes from now on begins.
                self.told_before.clear();
                let all = || self.there.values().flatten().cloned().collect();
                self.is_complete().then(|| Heard::Complete(all()))
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.complete == self.expected
    }

    fn arrival(&mut self, pod_ref: PodRef, pod: Arc<Pod>) -> Arrival {
        let before = self.told_before.remove(&pod_ref.uid);
        let (tell, pod) = match (self.fitting_mirror(&pod_ref), before) {
            (Some((mirror, object)), _) => (Some(mirror.clone()), Arc::new(with_mirror(&pod, object))),
            (None, Some(told)) => {
                (self.alone.then(|| pod_ref.clone()), Arc::new(Pod { status: Some(told), ..Pod::clone(&pod) }))
            }
            (None, None) => (self.alone.then(|| pod_ref.clone()), pod),
        };
        Arrival { pod_ref, pod, origin: Origin::Manifest, tell }
    }

    /// The mirror of a static pod, if it is of this very one and stays.
    fn fitting_mirror(&self, pod_ref: &PodRef) -> Option<&(PodRef, Arc<Pod>)> {
        let mirror = self.mirrors.get(&full_name(pod_ref))?;
        let fits = mirrored(&mirror.1) == Some(&*pod_ref.uid) && mirror.1.metadata.deletion_timestamp.is_none();
        fits.then_some(mirror)
    }

    /// What is to be done about mirrors now. `runs`: whether a pod that is to end is still there; its mirror waits.
    pub(super) fn mirror_actions(&mut self, runs: impl Fn(&str) -> bool) -> Vec<(FullName, MirrorAction)> {
        if self.alone || !self.is_complete() {
            return Vec::new();
        }
        for uids in self.ending.values_mut() {
            uids.retain(|uid| runs(uid));
        }
        self.ending.retain(|_, uids| !uids.is_empty());
        let names: BTreeSet<&FullName> = self.statics.keys().chain(self.mirrors.keys()).collect();
        let settled = names.into_iter().filter(|name| !self.ending.contains_key(*name));
        let actions = settled.map(|name| {
            let pod = self.statics.get(name).map(|(_, pod)| &**pod);
            let mirror = self.mirrors.get(name).map(|(_, mirror)| &**mirror);
            (name.clone(), mirror_action(pod, mirror))
        });
        actions.filter(|(_, action)| *action != MirrorAction::Keep).collect()
    }

    /// Whether [`Sources::mirror_actions`] waits for a pod's end.
    pub(super) fn waits(&self) -> bool {
        !self.alone && !self.ending.is_empty()
    }

    /// The static pod of a name.
    pub(super) fn static_pod(&self, name: &FullName) -> Option<&Arc<Pod>> {
        self.statics.get(name).map(|(_, pod)| pod).filter(|pod| hash_of(pod).is_some())
    }
}

pub(super) fn full_name(pod: &PodRef) -> FullName {
    (pod.namespace.clone(), pod.name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, name: &str, annotations: serde_json::Value) -> (PodRef, Arc<Pod>) {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "uid": uid, "annotations": annotations },
            "status": { "phase": if uid.starts_with('m') { "Running" } else { "Pending" } },
        });
        let pod: Pod = serde_json::from_value(object).unwrap();
        (PodRef::of(&pod).unwrap(), Arc::new(pod))
    }

    fn of_manifest(uid: &str) -> Change {
        let (pod_ref, pod) = pod(uid, "web-n", json!({ "kubernetes.io/config.hash": uid }));
        Change::Applied(pod_ref, pod)
    }

    fn mirror(uid: &str, of: &str) -> Change {
        let (pod_ref, pod) =
            pod(uid, "web-n", json!({ "kubernetes.io/config.hash": of, "kubernetes.io/config.mirror": of }));
        Change::Applied(pod_ref, pod)
    }

    fn complete(uids: &[&str]) -> Change {
        Change::Complete(uids.iter().map(|uid| Arc::from(*uid)).collect())
    }

    fn joined() -> Sources {
        Sources::new([Origin::Api, Origin::Manifest], BTreeMap::new())
    }

    fn told(heard: Option<Heard>) -> Option<Arc<str>> {
        let Some(Heard::Applied(arrival)) = heard else { panic!("{heard:?}") };
        arrival.tell.map(|tell| tell.uid)
    }

    fn actions(sources: &mut Sources) -> Vec<MirrorAction> {
        sources.mirror_actions(|_| false).into_iter().map(|(_, action)| action).collect()
    }

    #[test]
    fn which_pods_there_are_is_known_when_every_source_has_said_so() {
        let mut sources = joined();
        assert_eq!(sources.take(Origin::Manifest, complete(&["s"])), None);
        let all = |uids: &[&str]| Some(Heard::Complete(uids.iter().map(|uid| Arc::from(*uid)).collect()));
        assert_eq!(sources.take(Origin::Api, complete(&["a"])), all(&["s", "a"]));
        assert_eq!(sources.take(Origin::Api, complete(&["b"])), all(&["s", "b"]));
        let (gone, _) = pod("s", "web-n", json!({}));
        sources.take(Origin::Manifest, Change::Gone(gone));
        assert_eq!(sources.take(Origin::Api, complete(&["b"])), all(&["b"]));
    }

    #[test]
    fn a_mirror_is_never_run_and_is_whom_the_static_pod_is_told_to() {
        let mut sources = joined();
        assert_eq!(sources.take(Origin::Api, mirror("m1", "s")), None, "its manifest is not read yet");
        assert_eq!(told(sources.take(Origin::Manifest, of_manifest("s"))).as_deref(), Some("m1"));
        let Some(Heard::Applied(arrival)) = sources.take(Origin::Api, mirror("m2", "s")) else { panic!("told anew") };
        assert_eq!((&*arrival.pod_ref.uid, arrival.origin), ("s", Origin::Manifest));
        assert_eq!(arrival.tell.unwrap().uid.as_ref(), "m2");
        assert_eq!(arrival.pod.status.as_ref().unwrap().phase.as_deref(), Some("Running"), "what was told before");
        assert_eq!(sources.take(Origin::Api, mirror("m3", "other")), None, "a mirror of an earlier manifest");
        let (gone, _) = pod("m3", "web-n", json!({}));
        assert_eq!(sources.take(Origin::Api, Change::Gone(gone)), None);
    }

    #[test]
    fn a_mirror_is_made_when_all_is_known_and_made_again_when_it_is_gone() {
        let mut sources = joined();
        sources.take(Origin::Manifest, of_manifest("s"));
        sources.take(Origin::Manifest, complete(&["s"]));
        assert_eq!(actions(&mut sources), [], "there may be one already");
        sources.take(Origin::Api, complete(&[]));
        assert_eq!(actions(&mut sources), [MirrorAction::Create]);
        sources.take(Origin::Api, mirror("m1", "s"));
        assert_eq!(actions(&mut sources), []);
        let (gone, _) = pod("m1", "web-n", json!({}));
        sources.take(Origin::Api, Change::Gone(gone));
        assert_eq!(actions(&mut sources), [MirrorAction::Create]);
    }

    #[test]
    fn a_mirror_stays_until_its_pod_has_ended() {
        let mut sources = joined();
        sources.take(Origin::Manifest, of_manifest("s"));
        sources.take(Origin::Manifest, complete(&["s"]));
        sources.take(Origin::Api, mirror("m1", "s"));
        sources.take(Origin::Api, complete(&["m1"]));
        let (gone, _) = pod("s", "web-n", json!({}));
        sources.take(Origin::Manifest, Change::Gone(gone));
        assert_eq!(sources.mirror_actions(|_| true), []);
        assert!(sources.waits());
        assert_eq!(actions(&mut sources), [MirrorAction::Delete("m1".into())]);
        assert!(!sources.waits());
    }

    #[test]
    fn a_manifest_that_is_back_before_its_pod_has_ended_keeps_its_mirror_and_has_one_made_again() {
        let mut sources = joined();
        sources.take(Origin::Manifest, of_manifest("s"));
        sources.take(Origin::Manifest, complete(&["s"]));
        sources.take(Origin::Api, mirror("m1", "s"));
        sources.take(Origin::Api, complete(&["m1"]));
        let (gone, _) = pod("s", "web-n", json!({}));
        sources.take(Origin::Manifest, Change::Gone(gone));
        assert_eq!(told(sources.take(Origin::Manifest, of_manifest("s"))).as_deref(), Some("m1"));
        assert_eq!(sources.mirror_actions(|_| true), []);
        assert!(!sources.waits());
        let (gone, _) = pod("m1", "web-n", json!({}));
        sources.take(Origin::Api, Change::Gone(gone));
        let actions: Vec<_> = sources.mirror_actions(|_| true).into_iter().map(|(_, action)| action).collect();
        assert_eq!(actions, [MirrorAction::Create], "though a pod of this UID runs");
    }

    #[test]
    fn without_an_api_server_a_static_pod_is_told_of_under_its_own_name() {
        let mut sources = Sources::new([Origin::Manifest], BTreeMap::new());
        assert_eq!(told(sources.take(Origin::Manifest, of_manifest("s"))).as_deref(), Some("s"));
        assert!(sources.take(Origin::Manifest, complete(&["s"])).is_some());
        assert_eq!(actions(&mut sources), []);
    }
    #[test]
    fn what_an_earlier_agent_told_is_the_past_of_a_pod_that_is_there_at_first() {
        let told = PodStatus { phase: Some("Running".to_owned()), ..PodStatus::default() };
        let before = ["s", "t"].map(|uid| (Arc::from(uid), told.clone()));
        let mut sources = Sources::new([Origin::Manifest], before.into());
        let mut past = |uid| {
            let Some(Heard::Applied(arrival)) = sources.take(Origin::Manifest, of_manifest(uid)) else {
                panic!("{uid}")
            };
            assert_eq!(arrival.tell.map(|tell| tell.uid), Some(uid.into()));
            arrival.pod.status.clone().and_then(|status| status.phase)
        };
        assert_eq!(past("s").as_deref(), Some("Running"));
        assert_eq!(past("s").as_deref(), Some("Pending"), "its manifest's own: what was told is no news");
        sources.take(Origin::Manifest, complete(&["s"]));
        assert_eq!(told_phase(sources.take(Origin::Manifest, of_manifest("t"))).as_deref(), Some("Pending"));
    }

    fn told_phase(heard: Option<Heard>) -> Option<String> {
        let Some(Heard::Applied(arrival)) = heard else { panic!("{heard:?}") };
        arrival.pod.status.clone()?.phase
    }
}
