//! The operator who approves nodes' serving certificates: no controller of Kubernetes does.

use futures::StreamExt as _;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

/// The node whose requests this operator leaves to another one.
pub const UNAPPROVED: &str = "unapproved";

/// Approves what nodes ask for themselves. Runs until dropped.
pub(super) async fn approve_serving_certificates(client: Client) {
    let api = Api::<CertificateSigningRequest>::all(client);
    let requests = watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects();
    requests
        .for_each(async |request| {
            let Ok(request) = request else { return };
            if !wanted(&request) {
                return;
            }
            let patch = json!({ "status": { "conditions": [approval()] } });
            let name = request.name_any();
            if let Err(error) = api.patch_approval(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
                tracing::error!("certificate request {name} was not approved: {error}");
            }
        })
        .await;
}

/// A serving certificate, asked for by a node, and not yet judged.
fn wanted(request: &CertificateSigningRequest) -> bool {
    let spec = &request.spec;
    let judged =
        request.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some_and(|all| !all.is_empty());
    let node = spec.username.as_deref().and_then(|user| user.strip_prefix("system:node:"));
    spec.signer_name == "kubernetes.io/kubelet-serving" && node.is_some_and(|node| node != UNAPPROVED) && !judged
}

fn approval() -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: "Approved".into(),
        status: "True".into(),
        reason: Some("LiveSuite".into()),
        message: Some("approved by the live suite's operator".into()),
        last_update_time: Some(Time(Timestamp::now())),
        last_transition_time: None,
    }
}
