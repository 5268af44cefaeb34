//! Objects that tests create: what the test is about, and everything else as a user would have it.

use serde_json::{Value, json};

use crate::node::RESERVED_TAINT;
use crate::samples::image;

/// A pod of RuntimeClass `samara`, made field by field.
#[derive(Debug, Clone)]
pub struct PodSpec {
    labels: Value,
    spec: Value,
}

/// One container that runs a sample.
pub fn container(name: &str, sample: &str) -> Value {
    json!({ "name": name, "image": image(sample) })
}

/// Sets fields of an object and returns it.
#[must_use]
pub fn with(mut object: Value, fields: Value) -> Value {
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

impl PodSpec {
    /// A pod of one container which has the sample's name without its tag.
    pub fn of(sample: &str) -> Self {
        let name = sample.split(':').next().unwrap_or(sample);
        Self::containers([container(name, sample)])
    }

    /// A pod that serves v1 of http-hello at port 8080, and is Ready when it does.
    pub fn web() -> Self {
        let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 });
        Self::of("http-hello").main(json!({ "ports": [{ "containerPort": 8080 }], "readinessProbe": probe }))
    }

    /// A pod of these containers.
    pub fn containers(containers: impl IntoIterator<Item = Value>) -> Self {
        let containers: Vec<_> = containers.into_iter().collect();
        Self {
            labels: json!({}),
            spec: json!({ "runtimeClassName": "samara", "containers": containers, "terminationGracePeriodSeconds": 10 }),
        }
    }

    /// Sets fields of the spec.
    #[must_use]
    pub fn set(mut self, fields: Value) -> Self {
        self.spec = with(self.spec, fields);
        self
    }

    /// Sets fields of the first container.
    #[must_use]
    pub fn main(mut self, fields: Value) -> Self {
        let first = self.spec["containers"][0].take();
        self.spec["containers"][0] = with(first, fields);
        self
    }

    /// Adds a container.
    #[must_use]
    pub fn and(mut self, container: Value) -> Self {
        if let Some(all) = self.spec["containers"].as_array_mut() {
            all.push(container);
        }
        self
    }

    /// Labels.
    #[must_use]
    pub fn labels(mut self, labels: Value) -> Self {
        self.labels = labels;
        self
    }

    /// Runs on a node which this test has for itself.
    #[must_use]
    pub fn on(self, node: &str) -> Self {
        self.set(json!({
            "nodeSelector": { "kubernetes.io/hostname": node },
            "tolerations": [{ "key": RESERVED_TAINT, "value": node, "effect": "NoSchedule" }],
        }))
    }

    /// As a Pod.
    pub fn pod(&self, name: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": self.labels }, "spec": self.spec })
    }

    /// As a Deployment, whose pods have the label `app: <name>`.
    pub fn deployment(&self, name: &str, replicas: u32) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": with(json!({ "app": name }), self.labels.clone()) }, "spec": self.spec },
            },
        })
    }
}

/// A Service of port 80 in front of pods with the label `app: <name>`.
pub fn service(name: &str, target_port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": 80, "targetPort": target_port }] },
    })
}
