//! From what manifests hold to changes of pods. Pure: what was read goes in, what is new comes out.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use samara_core::manifest::Object;
use samara_core::statics::{Naming, Origin, Surroundings, static_pod};

use super::directory::Read;
use crate::objects::Given;
use crate::pods::PodRef;
use crate::pods::watch::Change;

/// What was read before, and from where.
#[derive(Debug)]
pub(in crate::pods) struct Feed {
    node_name: String,
    naming: Naming,
    surroundings: Surroundings,
    /// What a file held when it could last be read: an edit that went wrong ends no pod.
    good: BTreeMap<PathBuf, Vec<Object>>,
    pods: BTreeMap<Arc<str>, (PodRef, Arc<Pod>)>,
    complained: BTreeSet<String>,
    complete: bool,
}

/// What came of one look.
#[derive(Debug, Default, PartialEq)]
pub(in crate::pods) struct News {
    /// Those that are gone first.
    pub(in crate::pods) changes: Vec<Change>,
    /// ConfigMaps and Secrets, where there is no API server to have them from.
    pub(in crate::pods) given: Given,
    /// What is wrong, once for as long as it is.
    pub(in crate::pods) complaints: Vec<String>,
}

impl Feed {
    pub(in crate::pods) fn new(node_name: &str, naming: Naming, surroundings: Surroundings) -> Self {
        Self {
            node_name: node_name.to_owned(),
            naming,
            surroundings,
            good: BTreeMap::new(),
            pods: BTreeMap::new(),
            complained: BTreeSet::new(),
            complete: false,
        }
    }

    /// Takes in what is there now.
    pub(in crate::pods) fn take(&mut self, read: BTreeMap<PathBuf, Read>, now: Timestamp) -> News {
        let mut complaints = BTreeSet::new();
        self.good.retain(|path, _| read.contains_key(path));
        for (path, read) in read {
            match read {
                Ok(objects) => drop(self.good.insert(path, objects)),
                Err(reason) => drop(complaints.insert(format!("{}: {reason}", path.display()))),
            }
        }
        let (mut given, mut pods) = (Given::default(), BTreeMap::new());
        let mut names = BTreeSet::new();
        for (path, objects) in &self.good {
            let file = path.display().to_string();
            let origin = Origin {
                manifest: &file,
                node_name: &self.node_name,
                naming: self.naming,
                surroundings: self.surroundings,
            };
            for object in objects {
                match (object, self.surroundings) {
                    (Object::Pod(pod), _) => match static_pod(Pod::clone(pod), origin, now) {
                        Ok(pod) => {
                            let Some(pod_ref) = PodRef::of(&pod) else { continue };
                            if names.insert((pod_ref.namespace.clone(), pod_ref.name.clone())) {
                                pods.insert(pod_ref.uid.clone(), (pod_ref, Arc::new(pod)));
                            } else {
                                complaints.insert(format!("{file}: there is another pod {pod_ref}"));
                            }
                        }
                        Err(error) => drop(complaints.insert(format!("{file}: {error}"))),
                    },
                    (Object::ConfigMap(map), Surroundings::Alone) => given.add_config_map(ConfigMap::clone(map)),
                    (Object::Secret(secret), Surroundings::Alone) => given.add_secret(Secret::clone(secret)),
                    (other, _) => drop(complaints.insert(format!("{file}: {} is not for a node", kind(other)))),
                }
            }
        }
        let changes = self.changes(pods);
        let fresh = complaints.difference(&self.complained).cloned().collect();
        self.complained = complaints;
        News { changes, given, complaints: fresh }
    }

    fn changes(&mut self, pods: BTreeMap<Arc<str>, (PodRef, Arc<Pod>)>) -> Vec<Change> {
        let gone = self.pods.iter().filter(|(uid, _)| !pods.contains_key(*uid));
        let mut changes: Vec<_> = gone.map(|(_, (pod_ref, _))| Change::Gone(pod_ref.clone())).collect();
        self.pods.retain(|uid, _| pods.contains_key(uid));
        for (uid, (pod_ref, pod)) in pods {
            // One that is known stays as it was first seen, unless its manifest gives it a UID and something else changed.
            let same = self.pods.get(&uid).is_some_and(|(_, known)| known.spec == pod.spec && same_labels(known, &pod));
            if !same {
                changes.push(Change::Applied(pod_ref.clone(), pod.clone()));
                self.pods.insert(uid, (pod_ref, pod));
            }
        }
        if !std::mem::replace(&mut self.complete, true) {
            changes.push(Change::Complete(self.pods.keys().cloned().collect::<HashSet<_>>()));
        }
        changes
    }
}

fn same_labels(a: &Pod, b: &Pod) -> bool {
    a.metadata.labels == b.metadata.labels
}

fn kind(object: &Object) -> String {
    match object {
        Object::Pod(_) => "a Pod".to_owned(),
        Object::Deployment(_) => "a Deployment".to_owned(),
        Object::DaemonSet(_) => "a DaemonSet".to_owned(),
        Object::Job(_) => "a Job".to_owned(),
        Object::ConfigMap(_) => "a ConfigMap".to_owned(),
        Object::Secret(_) => "a Secret".to_owned(),
        Object::Other { kind, .. } => format!("a {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(surroundings: Surroundings) -> Feed {
        Feed::new("n", Naming::WithNode, surroundings)
    }

    fn pod(name: &str, image: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}"
        )
    }

    fn look(feed: &mut Feed, files: &[(&str, &str)]) -> News {
        let read = files.iter().map(|(name, text)| {
            (PathBuf::from(name), samara_core::manifest::parse(text).map_err(|error| error.to_string()))
        });
        feed.take(read.collect(), Timestamp::UNIX_EPOCH)
    }

    fn words(news: &News) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::Applied(pod, _) => format!("+{}", pod.name),
            Change::Gone(pod) => format!("-{}", pod.name),
            Change::Complete(all) => format!("all {}", all.len()),
        };
        news.changes.iter().map(word).collect()
    }

    #[test]
    fn a_changed_manifest_is_another_pod_and_the_old_one_is_gone_first() {
        let mut feed = feed(Surroundings::Cluster);
        assert_eq!(words(&look(&mut feed, &[("f", &pod("web", "a:1"))])), ["+web-n", "all 1"]);
        assert_eq!(words(&look(&mut feed, &[("f", &pod("web", "a:1"))])), [""; 0], "nothing new");
        assert_eq!(words(&look(&mut feed, &[("f", &pod("web", "a:2"))])), ["-web-n", "+web-n"]);
        assert_eq!(words(&look(&mut feed, &[])), ["-web-n"]);
    }

    #[test]
    fn an_empty_directory_is_known_to_be_empty() {
        assert_eq!(words(&look(&mut feed(Surroundings::Cluster), &[])), ["all 0"]);
    }

    #[test]
    fn an_edit_that_went_wrong_ends_no_pod_and_is_complained_of_once() {
        let mut feed = feed(Surroundings::Cluster);
        look(&mut feed, &[("f", &pod("web", "a:1"))]);
        let broken = look(&mut feed, &[("f", "a: [")]);
        assert_eq!((words(&broken).len(), broken.complaints.len()), (0, 1), "{broken:?}");
        let again = look(&mut feed, &[("f", "a: [")]);
        assert_eq!(again.complaints, [""; 0]);
        look(&mut feed, &[("f", &pod("web", "a:1"))]);
        assert_eq!(look(&mut feed, &[("f", "a: [")]).complaints.len(), 1, "it was mended meanwhile");
    }

    #[test]
    fn two_pods_of_one_name_and_kinds_that_are_no_pods_are_complained_of() {
        let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}}";
        let mut joined = feed(Surroundings::Cluster);
        let news = look(&mut joined, &[("a", &pod("web", "a:1")), ("b", &pod("web", "a:2")), ("c", map)]);
        assert_eq!(words(&news), ["+web-n", "all 1"]);
        assert_eq!(news.complaints, ["b: there is another pod default/web-n", "c: a ConfigMap is not for a node"]);
        let mut alone = feed(Surroundings::Alone);
        let news = look(&mut alone, &[("c", map)]);
        assert_eq!((news.complaints.len(), news.given.config_maps.len()), (0, 1));
    }
}
