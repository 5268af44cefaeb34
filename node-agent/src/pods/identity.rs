//! Which pod is meant.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};

/// A pod's UID (which names it for ever) and its namespace and name (which the API wants). Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl PodRef {
    /// `None` for an object without UID, namespace or name: the API server gives no such pods.
    pub fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            uid: pod.metadata.uid.as_deref()?.into(),
            namespace: pod.metadata.namespace.as_deref()?.into(),
            name: pod.metadata.name.as_deref()?.into(),
        })
    }

    /// The pod as an event's `involvedObject`; with the field path of one of its containers.
    pub fn object(&self, field_path: Option<String>) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(self.namespace.to_string()),
            name: Some(self.name.to_string()),
            uid: Some(self.uid.to_string()),
            field_path,
            ..ObjectReference::default()
        }
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
