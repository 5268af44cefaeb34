//! What an API server would refuse of a pod, as far as a node depends on it: names become names of files and cgroups.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

/// `None`: it may be run. Else the first thing that is wrong, with the path of its field.
pub fn check(pod: &Pod) -> Option<String> {
    let meta = &pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    if !is_subdomain(name) {
        return Some(invalid("metadata.name", name));
    }
    if let Some(namespace) = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty() && !is_label(namespace))
    {
        return Some(invalid("metadata.namespace", namespace));
    }
    if let Some(uid) = meta.uid.as_deref().filter(|uid| !is_uid(uid)) {
        return Some(invalid("metadata.uid", uid));
    }
    let Some(spec) = &pod.spec else { return Some("spec: Required value".to_owned()) };
    if spec.containers.is_empty() {
        return Some("spec.containers: Required value".to_owned());
    }
    let mut names = BTreeSet::new();
    let lists = [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers[..]))];
    for (list, containers) in lists {
        for (index, container) in containers.unwrap_or_default().iter().enumerate() {
            let field = |field: &str| format!("spec.{list}[{index}].{field}");
            if !is_label(&container.name) {
                return Some(invalid(&field("name"), &container.name));
            }
            if !names.insert(container.name.as_str()) {
                return Some(format!("{}: Duplicate value: {:?}", field("name"), container.name));
            }
            if container.image.as_deref().is_none_or(str::is_empty) {
                return Some(format!("{}: Required value", field("image")));
            }
        }
    }
    let volumes: BTreeSet<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    if let Some(wrong) = volumes.iter().find(|name| !is_label(name)) {
        return Some(invalid("spec.volumes.name", wrong));
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    let missing = mounts.find(|mount| !volumes.contains(mount.name.as_str()))?;
    Some(format!("volumeMounts.name: Not found: {:?}", missing.name))
}

fn invalid(field: &str, value: &str) -> String {
    let shown: String = value.chars().take(80).collect();
    format!("{field}: Invalid value: {shown:?}")
}

/// RFC 1123.
fn is_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
            "spec": { "containers": [{ "name": "app", "image": "a" }], "volumes": [{ "name": "v" }] },
        });
        change(&mut pod);
        check(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn names_that_would_lead_out_of_a_directory_are_refused() {
        assert_eq!(checked(|_| {}), None);
        for bad in ["../x", "a/b", "", "A", "a_b", "-a", ".", "x\n", &"a".repeat(254)] {
            let refused = |pointer: &str| checked(|pod| *pod.pointer_mut(pointer).unwrap() = bad.into()).is_some();
            assert!(refused("/metadata/name"), "{bad:?}");
            assert!(refused("/spec/containers/0/name"), "{bad:?}");
            assert!(refused("/spec/volumes/0/name"), "{bad:?}");
        }
        assert!(checked(|pod| pod["metadata"]["namespace"] = "a.b".into()).is_some());
        assert!(checked(|pod| pod["metadata"]["uid"] = "../..".into()).is_some());
    }

    #[test]
    fn what_is_missing_or_twice_is_named() {
        let container = json!({ "name": "app", "image": "a" });
        for (pointer, value, says) in [
            ("/spec/containers", json!([]), "spec.containers: Required value"),
            ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
            ("/spec/containers", json!([container, container]), "spec.containers[1].name: Duplicate value: \"app\""),
            (
                "/spec/containers/0",
                json!({ "name": "app", "image": "a", "volumeMounts": [{ "name": "w", "mountPath": "/w" }] }),
                "volumeMounts.name: Not found: \"w\"",
            ),
        ] {
            assert_eq!(checked(|pod| *pod.pointer_mut(pointer).unwrap() = value).as_deref(), Some(says));
        }
    }
}
