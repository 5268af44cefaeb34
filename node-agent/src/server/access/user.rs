//! Somebody.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::UserInfo;

/// The group of everybody who proved to be somebody.
pub(super) const AUTHENTICATED: &str = "system:authenticated";

/// Who a request comes from, in the API server's terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct User {
    /// `system:serviceaccount:...`, `kube-apiserver-kubelet-client`, ...
    pub name: String,
    /// May be empty.
    pub uid: String,
    /// Includes `system:authenticated`.
    pub groups: Vec<String>,
    /// What the authenticator knew besides.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// From a certificate: the name is its CN, the groups its Os.
    pub(super) fn certified(name: String, mut groups: Vec<String>) -> Self {
        groups.push(AUTHENTICATED.into());
        Self { name, groups, ..Self::default() }
    }

    /// Nobody in particular.
    pub(super) fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..Self::default() }
    }
}

impl From<UserInfo> for User {
    fn from(info: UserInfo) -> Self {
        let mut groups = info.groups.unwrap_or_default();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Self {
            name: info.username.unwrap_or_default(),
            uid: info.uid.unwrap_or_default(),
            groups,
            extra: info.extra.unwrap_or_default(),
        }
    }
}
