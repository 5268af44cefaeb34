//! Static pods: pods of a manifest on the node's own disk, and the mirrors by which the API server knows of them
//! (kubelet: `config/common.go`, `pod/mirror_client.go`; KEP-1314).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::manifest;

/// Annotation: where a pod came from; `file` here.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// Annotation: when it was seen first.
pub const SEEN: &str = "kubernetes.io/config.seen";
/// Annotation: the hash of the manifest, which is the pod's UID on this node.
pub const HASH: &str = "kubernetes.io/config.hash";
/// Annotation of a mirror: the hash of the pod that it mirrors.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// A manifest's pod that is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticPodError {
    #[error("invalid pod: {0}")]
    Invalid(String),
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

/// Whether there is an API server: objects of which static pods must not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surroundings {
    Cluster,
    Alone,
}

/// Which name a pod has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Naming {
    /// The manifest's, and the node's behind it: two nodes may have the same manifest.
    #[default]
    WithNode,
    /// The manifest's.
    Plain,
}

/// Where manifests are, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The file.
    pub manifest: &'a str,
    pub node_name: &'a str,
    pub naming: Naming,
    pub surroundings: Surroundings,
}

/// A manifest's pod as this node runs it: a UID from its content, its place and the node; no taint's business.
pub fn static_pod(mut pod: Pod, origin: Origin<'_>, now: Timestamp) -> Result<Pod, StaticPodError> {
    // What would make it somebody else's pod.
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| ![SOURCE, SEEN, HASH, MIRROR].contains(&key.as_str()));
    }
    pod.status = None;
    pod.metadata.owner_references = None;
    pod.metadata.deletion_timestamp = None;
    if let Some(wrong) = manifest::check(&pod) {
        return Err(StaticPodError::Invalid(wrong));
    }
    if let (Surroundings::Cluster, Some(object)) = (origin.surroundings, api_reference(&pod)) {
        return Err(StaticPodError::Reference(object));
    }
    let uid = pod.metadata.uid.clone().unwrap_or_else(|| uid(&pod, origin));
    let meta = &mut pod.metadata;
    meta.name = meta.name.take().map(|name| match origin.naming {
        Naming::WithNode => format!("{name}-{}", origin.node_name.to_lowercase()),
        Naming::Plain => name,
    });
    meta.namespace = meta.namespace.take().filter(|namespace| !namespace.is_empty()).or(Some("default".to_owned()));
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(HASH.to_owned(), uid.clone());
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(SEEN.to_owned(), now.to_string());
    meta.uid = Some(uid);
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(origin.node_name.to_owned());
        let tolerations = spec.tolerations.get_or_insert_default();
        tolerations.push(Toleration {
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            ..Toleration::default()
        });
    }
    pod.status = Some(PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() });
    Ok(pod)
}

/// FNV-1a of 128 bits: the same after a restart of the agent, on every machine.
fn uid(pod: &Pod, origin: Origin<'_>) -> String {
    let content = serde_json::to_vec(pod).unwrap_or_default();
    let place = format!("host:{}file:{}", origin.node_name, origin.manifest);
    let hash =
        content.iter().chain(place.as_bytes()).fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
        });
    format!("{hash:032x}")
}

/// What the API server is given of a static pod. `None`: the Node is not registered, or this is no static pod.
pub fn mirror_of(pod: &Pod, node_name: &str, node_uid: Option<&str>) -> Option<Pod> {
    let hash = hash_of(pod)?.to_owned();
    let mut mirror = pod.clone();
    let meta = &mut mirror.metadata;
    meta.uid = None;
    meta.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    meta.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node_name.to_owned(),
        uid: node_uid?.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    Some(mirror)
}

/// Of a pod of the API server: whether it is a mirror, and of which hash.
pub fn mirrored(pod: &Pod) -> Option<&str> {
    annotation(pod, MIRROR)
}

/// Of a static pod.
pub fn hash_of(pod: &Pod) -> Option<&str> {
    annotation(pod, HASH)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The static pod with what the API server says of its mirror.
pub fn with_mirror(pod: &Pod, mirror: &Pod) -> Pod {
    let mut merged = pod.clone();
    merged.status.clone_from(&mirror.status);
    merged.metadata.generation = mirror.metadata.generation;
    merged
}

/// What to do about a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorAction {
    Keep,
    Create,
    /// This one, and no other of its name.
    Delete(String),
}

/// From the static pod of a name and the API server's pod of that name.
pub fn mirror_action(pod: Option<&Pod>, mirror: Option<&Pod>) -> MirrorAction {
    let Some(mirror) = mirror else {
        return if pod.is_some() { MirrorAction::Create } else { MirrorAction::Keep };
    };
    let fits = pod.is_some_and(|pod| mirrored(mirror) == hash_of(pod));
    if fits && mirror.metadata.deletion_timestamp.is_none() {
        return MirrorAction::Keep;
    }
    MirrorAction::Delete(mirror.metadata.uid.clone().unwrap_or_default())
}

/// Objects that the pod needs of an API server, as the kubelet names them (`HasAPIObjectReference`).
fn api_reference(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let needed = crate::volumes::references(pod);
    let present = [
        ("serviceaccounts", spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty())),
        ("secrets", !needed.secrets.is_empty() || !needed.image_pull_secrets.is_empty()),
        ("configmaps", !needed.config_maps.is_empty()),
        ("resourceclaims", spec.resource_claims.iter().flatten().next().is_some()),
    ];
    let of_volumes = || spec.volumes.iter().flatten().find_map(volume_reference);
    present.into_iter().find(|(_, present)| *present).map(|(object, _)| object).or_else(of_volumes)
}

fn volume_reference(volume: &Volume) -> Option<&'static str> {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let projected = sources.into_iter().find_map(|source| {
        let present = [
            ("serviceaccounts (via projected volumes)", source.service_account_token.is_some()),
            ("clustertrustbundles", source.cluster_trust_bundle.is_some()),
            ("podcertificates", source.pod_certificate.is_some()),
        ];
        present.into_iter().find(|(_, present)| *present).map(|(object, _)| object)
    });
    let present = [
        ("csidrivers (via CSI volumes)", volume.csi.is_some()),
        ("persistentvolumeclaims", volume.persistent_volume_claim.is_some()),
        ("persistentvolumeclaims (via ephemeral volumes)", volume.ephemeral.is_some()),
    ];
    projected.or_else(|| present.into_iter().find(|(_, present)| *present).map(|(object, _)| object))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
            "spec": { "containers": [{ "name": "app", "image": "a:1" }] },
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    const ORIGIN: Origin<'_> = Origin {
        manifest: "/etc/m/web.yaml",
        node_name: "Node-1",
        naming: Naming::WithNode,
        surroundings: Surroundings::Cluster,
    };

    fn made(pod: Pod) -> Result<Pod, StaticPodError> {
        static_pod(pod, ORIGIN, Timestamp::UNIX_EPOCH)
    }

    fn alone(pod: Pod) -> Result<Pod, StaticPodError> {
        static_pod(pod, Origin { surroundings: Surroundings::Alone, ..ORIGIN }, Timestamp::UNIX_EPOCH)
    }

    fn uid_of(change: impl FnOnce(&mut Value)) -> String {
        made(manifest(change)).unwrap().metadata.uid.unwrap()
    }

    #[test]
    fn a_static_pod_has_the_nodes_name_behind_its_own_and_its_hash_as_uid() {
        let pod = made(manifest(|_| {})).unwrap();
        let meta = &pod.metadata;
        let uid = meta.uid.clone().unwrap();
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("web-node-1"), Some("default")));
        assert_eq!((hash_of(&pod), annotation(&pod, SOURCE), mirrored(&pod)), (Some(&*uid), Some("file"), None));
        assert_eq!((uid.len(), uid.bytes().all(|byte| byte.is_ascii_hexdigit())), (32, true));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("Node-1"));
        assert_eq!(spec.tolerations.as_ref().unwrap()[0].effect.as_deref(), Some("NoExecute"));
        let plain = static_pod(manifest(|_| {}), Origin { naming: Naming::Plain, ..ORIGIN }, Timestamp::UNIX_EPOCH);
        assert_eq!(plain.unwrap().metadata.name.as_deref(), Some("web"));
    }

    #[test]
    fn the_uid_changes_with_the_content_the_file_and_the_node_and_with_nothing_else() {
        let base = uid_of(|_| {});
        assert_eq!(uid_of(|pod| pod["metadata"]["annotations"] = json!({ SEEN: "then", MIRROR: "x" })), {
            uid_of(|pod| pod["metadata"]["annotations"] = json!({}))
        });
        assert_ne!(uid_of(|pod| pod["spec"]["containers"][0]["args"] = json!(["x"])), base);
        let elsewhere = |manifest_file, node_name| {
            let origin = Origin { manifest: manifest_file, node_name, ..ORIGIN };
            static_pod(manifest(|_| {}), origin, Timestamp::UNIX_EPOCH).unwrap().metadata.uid.unwrap()
        };
        assert_eq!(elsewhere("/etc/m/web.yaml", "Node-1"), base);
        assert_ne!(elsewhere("/etc/m/b.yaml", "Node-1"), base);
        assert_ne!(elsewhere("/etc/m/web.yaml", "Node-2"), base);
        assert_eq!(uid_of(|pod| pod["metadata"]["uid"] = "own-1".into()), "own-1");
    }

    #[test]
    fn what_needs_an_object_of_the_api_server_is_refused_in_a_cluster_and_runs_alone() {
        let env = |source: Value| json!({ "name": "app", "image": "a", "env": [{ "name": "A", "valueFrom": source }] });
        for (pointer, value, object) in [
            ("/spec/serviceAccountName", json!("me"), "serviceaccounts"),
            ("/spec/containers/0", env(json!({ "secretKeyRef": { "name": "s", "key": "k" } })), "secrets"),
            ("/spec/containers/0", env(json!({ "configMapKeyRef": { "name": "s", "key": "k" } })), "configmaps"),
            (
                "/spec/volumes",
                json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]),
                "persistentvolumeclaims",
            ),
            (
                "/spec/volumes",
                json!([{ "name": "v", "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }]),
                "serviceaccounts (via projected volumes)",
            ),
        ] {
            let pod = manifest(|pod| {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                let parent = pod.pointer_mut(parent).unwrap();
                match field.parse::<usize>() {
                    Ok(index) => parent[index] = value,
                    Err(_) => parent[field] = value,
                }
            });
            assert_eq!(made(pod.clone()), Err(StaticPodError::Reference(object)));
            assert!(alone(pod).is_ok(), "{object}");
        }
        let wrong = made(manifest(|pod| pod["metadata"]["name"] = "../web".into())).unwrap_err();
        assert_eq!(wrong.to_string(), "invalid pod: metadata.name: Invalid value: \"../web\"");
    }

    #[test]
    fn a_mirror_names_its_node_and_the_hash_and_has_no_uid() {
        let pod = made(manifest(|_| {})).unwrap();
        let mirror = mirror_of(&pod, "Node-1", Some("n-1")).unwrap();
        assert_eq!(mirrored(&mirror), hash_of(&pod));
        assert_eq!((mirror.metadata.uid, mirror.status), (None, None));
        let owners = mirror.metadata.owner_references.unwrap();
        assert_eq!(
            (owners[0].kind.as_str(), owners[0].uid.as_str(), owners[0].controller),
            ("Node", "n-1", Some(true))
        );
        assert_eq!(mirror_of(&pod, "Node-1", None), None, "the Node is not there yet");
    }

    #[test]
    fn a_mirror_that_is_missing_is_made_and_one_that_does_not_fit_goes() {
        let pod = made(manifest(|_| {})).unwrap();
        let changed = made(manifest(|pod| pod["spec"]["containers"][0]["image"] = "a:2".into())).unwrap();
        let mut mirror = mirror_of(&pod, "Node-1", Some("n-1")).unwrap();
        mirror.metadata.uid = Some("m-1".to_owned());
        let mut deleted = mirror.clone();
        deleted.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let delete = || MirrorAction::Delete("m-1".to_owned());
        for (wanted, there, action) in [
            (None, None, MirrorAction::Keep),
            (Some(&pod), None, MirrorAction::Create),
            (Some(&pod), Some(&mirror), MirrorAction::Keep),
            (Some(&changed), Some(&mirror), delete()),
            (Some(&pod), Some(&deleted), delete()),
            (None, Some(&mirror), delete()),
        ] {
            assert_eq!(mirror_action(wanted, there), action);
        }
    }
}
