//! Whether an image is pulled, and what is told while it is not here (kubelet: `images/image_manager.go`).

pub mod access;
pub mod gc;

use k8s_openapi::api::core::v1::Container;

use crate::events::quoted;

/// What to do before a container is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullDecision {
    Pull,
    UsePresent,
    /// `ErrImageNeverPull`.
    NeverPull,
}

/// From `imagePullPolicy` (the API server sets the default; an absent one follows the tag) and whether it is here.
pub fn decide(container: &Container, present: bool) -> PullDecision {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if moves(image) => "Always",
        _ => "IfNotPresent",
    };
    match (policy, present) {
        ("Always", _) | ("IfNotPresent", false) => PullDecision::Pull,
        ("Never", false) => PullDecision::NeverPull,
        _ if present => PullDecision::UsePresent,
        _ => PullDecision::Pull,
    }
}

/// Whether the image's name may mean another image tomorrow: no digest, and no tag or `latest`.
fn moves(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// The waiting message of `ImagePullBackOff`: `reason` and `cause` are what the failed pull said.
pub fn back_off_message(image: &str, reason: &str, cause: &str) -> String {
    format!("Back-off pulling image {}: {reason}: {cause}", quoted(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(image: &str, policy: Option<&str>) -> Container {
        Container {
            image: Some(image.to_owned()),
            image_pull_policy: policy.map(str::to_owned),
            ..Container::default()
        }
    }

    #[test]
    fn the_policy_decides_and_an_absent_one_follows_the_tag() {
        use PullDecision::{NeverPull, Pull, UsePresent};
        for (image, policy, present, decision) in [
            ("a:1", Some("Always"), true, Pull),
            ("a:1", Some("IfNotPresent"), true, UsePresent),
            ("a:1", Some("IfNotPresent"), false, Pull),
            ("a:1", Some("Never"), true, UsePresent),
            ("a:1", Some("Never"), false, NeverPull),
            ("a:1", None, true, UsePresent),
            ("a", None, true, Pull),
            ("a:latest", None, true, Pull),
            ("reg:5000/a", None, true, Pull),
            ("reg:5000/a:1", None, true, UsePresent),
            ("a@sha256:0", None, true, UsePresent),
            ("a:1", Some("Sometimes"), false, Pull),
            ("", None, false, Pull),
        ] {
            assert_eq!(decide(&container(image, policy), present), decision, "{image} {policy:?} {present}");
        }
    }

    #[test]
    fn the_back_off_names_image_reason_and_cause() {
        assert_eq!(
            back_off_message("reg/a:1", "ErrImagePull", "connection refused"),
            "Back-off pulling image \"reg/a:1\": ErrImagePull: connection refused"
        );
    }
}
