//! From the objects of a manifest to the pods that this machine runs, as podman does. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, HostPathVolumeSource, Pod, PodSpec, PodTemplateSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use samara_core::manifest::{Object, check};
use serde_json::Value;

use super::home::{Name, name_of};
use crate::container::check_name;

/// More replicas of one Deployment than this are a mistake.
const MOST_REPLICAS: i32 = 100;

/// What is to run.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) pods: Vec<Pod>,
    config_maps: Vec<ConfigMap>,
    secrets: Vec<Secret>,
    /// What of the manifest means nothing here.
    pub(super) notes: Vec<String>,
}

/// `volumes`: where named volumes are, which stand for PersistentVolumeClaims.
pub(super) fn plan(objects: Vec<Object>, volumes: &Path) -> Result<Plan> {
    let mut plan = Plan::default();
    for object in objects {
        match object {
            Object::Pod(pod) => plan.pods.push(*pod),
            Object::Deployment(deployment) => {
                let spec = deployment.spec.unwrap_or_default();
                let replicas = spec.replicas.unwrap_or(1);
                if !(0..=MOST_REPLICAS).contains(&replicas) {
                    bail!("spec.replicas is {replicas}: this is one machine, write 0 to {MOST_REPLICAS}");
                }
                for number in 0..replicas {
                    let suffix = if replicas == 1 { "pod".to_owned() } else { format!("pod-{number}") };
                    plan.pods.push(of_template(&deployment.metadata, &suffix, spec.template.clone()));
                }
            }
            Object::DaemonSet(set) => {
                let template = set.spec.unwrap_or_default().template;
                plan.pods.push(of_template(&set.metadata, "pod", template));
            }
            Object::Job(job) => {
                let mut template = job.spec.unwrap_or_default().template;
                // The API server asks for one; what a Job means is that it ends.
                let spec = template.spec.get_or_insert_default();
                spec.restart_policy.get_or_insert_with(|| "Never".to_owned());
                plan.pods.push(of_template(&job.metadata, "pod", template));
            }
            Object::ConfigMap(map) => plan.config_maps.push(*map),
            Object::Secret(secret) => plan.secrets.push(*secret),
            // A claim is met by the volume of its name, which is made when a pod wants it.
            Object::Other { kind, .. } if kind == "PersistentVolumeClaim" => {}
            Object::Other { kind, name } => {
                plan.notes.push(format!("{kind} {name} is passed over: it needs a cluster"))
            }
        }
    }
    let mut names = BTreeSet::new();
    for pod in &mut plan.pods {
        let name = name_of(pod);
        if let Some(wrong) = check(pod) {
            bail!("pod {:?}: {wrong}", name.1);
        }
        let spec = pod.spec.get_or_insert_default();
        of_this_machine(spec);
        claims(spec, volumes).with_context(|| format!("pod {:?}", name.1))?;
        if !names.insert(name.clone()) {
            bail!("there are two pods {:?} in it", name.1);
        }
    }
    if plan.pods.is_empty() {
        bail!("there is no pod in it: Pod, Deployment, DaemonSet or Job make some");
    }
    Ok(plan)
}

fn of_template(owner: &ObjectMeta, suffix: &str, template: PodTemplateSpec) -> Pod {
    let name = format!("{}-{suffix}", owner.name.clone().unwrap_or_default());
    let metadata =
        ObjectMeta { name: Some(name), namespace: owner.namespace.clone(), ..template.metadata.unwrap_or_default() };
    Pod { metadata, spec: template.spec, status: None }
}

/// Who else might run it, and as whom there, is a cluster's matter.
fn of_this_machine(spec: &mut PodSpec) {
    spec.node_name = None;
    spec.node_selector = None;
    spec.affinity = None;
    spec.topology_spread_constraints = None;
    spec.scheduler_name = None;
    spec.runtime_class_name = None;
    spec.service_account_name = None;
    spec.service_account = None;
    spec.os = None;
    // There is no DNS of a cluster to come first, and nothing to warn of.
    if spec.dns_policy.as_deref().is_none_or(|policy| policy.starts_with("ClusterFirst")) {
        spec.dns_policy = Some("Default".to_owned());
    }
}

fn claims(spec: &mut PodSpec, volumes: &Path) -> Result<()> {
    for volume in spec.volumes.iter_mut().flatten() {
        let Some(claim) = volume.persistent_volume_claim.take() else { continue };
        check_name(&claim.claim_name).with_context(|| format!("volume {:?}", volume.name))?;
        volume.host_path = Some(HostPathVolumeSource {
            path: volumes.join(&claim.claim_name).display().to_string(),
            type_: Some("DirectoryOrCreate".to_owned()),
        });
    }
    Ok(())
}

impl Plan {
    /// Of all pods.
    pub(super) fn names(&self) -> BTreeSet<Name> {
        self.pods.iter().map(name_of).collect()
    }

    /// Each image once, with the policy that its first container has.
    pub(super) fn images(&self) -> Vec<(String, Option<String>)> {
        let specs = self.pods.iter().filter_map(|pod| pod.spec.as_ref());
        let containers = specs.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let mut images: Vec<(String, Option<String>)> = Vec::new();
        for container in containers {
            let image = container.image.clone().unwrap_or_default();
            if !images.iter().any(|(known, _)| *known == image) {
                images.push((image, container.image_pull_policy.clone()));
            }
        }
        images
    }

    /// The images are here now: the node fetches none. `renamed`: what a wasm file was made into.
    pub(super) fn with_images_present(&mut self, renamed: impl Fn(&str) -> Option<String>) {
        let specs = self.pods.iter_mut().filter_map(|pod| pod.spec.as_mut());
        let containers = specs.flat_map(|spec| spec.init_containers.iter_mut().flatten().chain(&mut spec.containers));
        for container in containers {
            container.image_pull_policy = Some("IfNotPresent".to_owned());
            if let Some(name) = container.image.as_deref().and_then(&renamed) {
                container.image = Some(name);
            }
        }
    }

    /// As they are written down.
    pub(super) fn objects(&self) -> Result<Vec<Value>> {
        let maps = self.config_maps.iter().map(serde_json::to_value);
        let secrets = self.secrets.iter().map(serde_json::to_value);
        let pods = self.pods.iter().map(serde_json::to_value);
        Ok(maps.chain(secrets).chain(pods).collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> Result<Plan> {
        plan(samara_core::manifest::parse(text)?, Path::new("/v"))
    }

    const TEMPLATE: &str = "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";

    #[test]
    fn deployments_daemon_sets_and_jobs_become_pods() {
        let text = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: one}}, spec: {{selector: {{}}, {TEMPLATE}}}}}\n---\n\
             {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: two}}, spec: {{selector: {{}}, replicas: 2, {TEMPLATE}}}}}\n---\n\
             {{apiVersion: apps/v1, kind: DaemonSet, metadata: {{name: set, namespace: ns}}, spec: {{selector: {{}}, {TEMPLATE}}}}}\n---\n\
             {{apiVersion: batch/v1, kind: Job, metadata: {{name: job}}, spec: {{{TEMPLATE}}}}}\n---\n\
             {{apiVersion: v1, kind: Service, metadata: {{name: s}}}}"
        );
        let plan = planned(&text).unwrap();
        let names: Vec<_> =
            plan.pods.iter().map(name_of).map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        assert_eq!(
            names,
            ["default/one-pod", "default/two-pod-0", "default/two-pod-1", "ns/set-pod", "default/job-pod"]
        );
        assert_eq!(plan.pods[4].spec.as_ref().unwrap().restart_policy.as_deref(), Some("Never"));
        assert_eq!(plan.pods[0].metadata.labels.as_ref().unwrap()["a"], "b");
        assert_eq!(plan.notes, ["Service s is passed over: it needs a cluster"]);
    }

    #[test]
    fn a_claim_is_the_volume_of_its_name_and_where_it_might_run_does_not_count() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  nodeSelector: {a: b}\n  serviceAccountName: me\n  \
                    containers: [{name: c, image: i}]\n  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]\n";
        let mut plan = planned(text).unwrap();
        plan.with_images_present(|image| (image == "i").then(|| "localhost/i:x".to_owned()));
        let spec = plan.pods[0].spec.clone().unwrap();
        assert_eq!((spec.node_selector, spec.service_account_name), (None, None));
        assert_eq!(spec.dns_policy.as_deref(), Some("Default"));
        let volume = &spec.volumes.unwrap()[0];
        assert_eq!(volume.host_path.as_ref().unwrap().path, "/v/data");
        assert_eq!(volume.persistent_volume_claim, None);
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("IfNotPresent"));
        assert_eq!(spec.containers[0].image.as_deref(), Some("localhost/i:x"));
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        let pod = |name: &str, more: &str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}]{more}}}}}"
            )
        };
        for (text, says) in [
            ("{apiVersion: v1, kind: ConfigMap, metadata: {name: m}}".to_owned(), "there is no pod in it"),
            (format!("{}\n---\n{}", pod("a", ""), pod("a", "")), "two pods \"a\""),
            (pod("../a", ""), "metadata.name: Invalid value"),
            (pod("a", ", volumes: [{name: v, persistentVolumeClaim: {claimName: ../x}}]"), "volume \"v\""),
            (
                format!(
                    "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}, spec: {{selector: {{}}, replicas: 1000, {TEMPLATE}}}}}"
                ),
                "spec.replicas is 1000",
            ),
        ] {
            let error = format!("{:#}", planned(&text).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
