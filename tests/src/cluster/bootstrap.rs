//! What an operator gives a new cluster so that nodes can join it: a token and the rights of the bootstrap.

use anyhow::Result;
use serde_json::{Value, json};

/// Bootstrap token: id and secret. It is a secret of a cluster that lives for minutes in a namespace of this machine.
pub(crate) const TOKEN: (&str, &str) = ("samara", "livelivelivelive");

/// YAML of all objects.
pub(crate) fn objects() -> Result<String> {
    let group = "system:bootstrappers:samara";
    let objects = [
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": format!("bootstrap-token-{}", TOKEN.0), "namespace": "kube-system" },
            "stringData": {
                "token-id": TOKEN.0, "token-secret": TOKEN.1, "auth-extra-groups": group,
                "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            },
        }),
        grant("samara:node-bootstrapper", "system:node-bootstrapper", group),
        grant("samara:approve-new-nodes", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", group),
        grant(
            "samara:approve-renewals",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            "system:nodes",
        ),
    ];
    let texts: Result<Vec<_>, _> = objects.iter().map(serde_yaml_ng::to_string).collect();
    Ok(texts?.join("---\n"))
}

fn grant(name: &str, role: &str, group: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group }],
    })
}
