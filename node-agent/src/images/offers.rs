//! What is shown to a registry for a pod, and by whose right: its pull secrets first, then what the node itself knows.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use samara_core::events;
use samara_core::pull::access::{ImagePullCredentials, ImagePullSecret, ImagePullServiceAccount};
use samara_images::{Credential, Keyring, Match, NodeCredentials, Owner, Reference};

use super::Wish;

/// One credential to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) credential: Credential,
    pub(super) right: Right,
}

/// Why the pod may show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Right {
    /// It names this pull secret.
    Secret { name: String, uid: String },
    /// It runs as this service account.
    ServiceAccount { name: String, uid: String },
    /// It is on this node.
    Node,
}

impl Offer {
    fn secret(&self, namespace: &str) -> Option<ImagePullSecret> {
        let Right::Secret { name, uid } = &self.right else { return None };
        Some(ImagePullSecret {
            uid: uid.clone(),
            namespace: namespace.to_owned(),
            name: name.clone(),
            credential_hash: self.credential.fingerprint(),
        })
    }

    fn account(&self, namespace: &str) -> Option<ImagePullServiceAccount> {
        let Right::ServiceAccount { name, uid } = &self.right else { return None };
        Some(ImagePullServiceAccount { uid: uid.clone(), namespace: namespace.to_owned(), name: name.clone() })
    }
}

/// The secrets and the account that a pod of this namespace shows, for the record of who opened an image.
pub(super) fn shown(offers: &[Offer], namespace: &str) -> (Vec<ImagePullSecret>, Option<ImagePullServiceAccount>) {
    let secrets = offers.iter().filter_map(|offer| offer.secret(namespace)).collect();
    (secrets, offers.iter().find_map(|offer| offer.account(namespace)))
}

/// The same for the one that the registry took; `None`: it asked for none.
pub(super) fn opened(offer: Option<&Offer>, namespace: &str) -> ImagePullCredentials {
    let secret = offer.and_then(|offer| offer.secret(namespace));
    let account = offer.and_then(|offer| offer.account(namespace));
    ImagePullCredentials {
        node_pods_accessible: secret.is_none() && account.is_none(),
        kubernetes_secrets: secret.into_iter().collect(),
        kubernetes_service_accounts: account.into_iter().collect(),
    }
}

/// Everything that fits the image, in the order in which it is tried.
pub(super) async fn offers(wish: &Wish<'_>, reference: &Reference, node: &NodeCredentials) -> Vec<Offer> {
    let mut offers = of_secrets(wish, reference);
    let account = wish.account.map_or("", |account| account.name());
    offers.extend(node.lookup(reference, wish.account).await.into_iter().map(|(credential, owner)| {
        let right = match owner {
            Owner::Node => Right::Node,
            Owner::ServiceAccount { uid } => Right::ServiceAccount { name: account.to_owned(), uid },
        };
        Offer { credential, right }
    }));
    offers
}

/// What the secrets offer, the most particular first whichever secret it is in. One that is missing or holds no credentials
/// is told and passed over: the pull may do without.
fn of_secrets(wish: &Wish<'_>, reference: &Reference) -> Vec<Offer> {
    let (mut found, mut missing) = (Vec::<(Match, Right)>::new(), Vec::new());
    for (name, secret) in wish.secrets {
        match secret.clone().map_err(|error| error.to_string()).and_then(|secret| Ok((keyring(&secret)?, secret))) {
            Ok((keyring, secret)) => {
                let uid = secret.metadata.uid.clone().unwrap_or_default();
                let right = Right::Secret { name: name.clone(), uid };
                found.extend(keyring.matches(reference).into_iter().map(|found| (found, right.clone())));
            }
            Err(error) => {
                // Why is for whoever runs the node: the event's text is the kubelet's.
                tracing::warn!(namespace = wish.namespace, secret = name, error, "an image pull secret is of no use");
                missing.push(name.as_str());
            }
        }
    }
    if !missing.is_empty() {
        (wish.record)(events::pull_secret_missing(&missing));
    }
    found.sort_by(|(one, _), (other, _)| one.order().cmp(&other.order()));
    found.into_iter().map(|(found, right)| Offer { credential: found.credential, right }).collect()
}

fn keyring(secret: &Arc<Secret>) -> Result<Keyring, String> {
    let data = secret.data.as_ref();
    let entry = |key: &str| data.and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let keyring = match (entry(".dockerconfigjson"), entry(".dockercfg")) {
        (Some(text), _) => Keyring::from_config_json(text),
        (None, Some(text)) => Keyring::from_config(text),
        (None, None) => return Err("the secret has neither .dockerconfigjson nor .dockercfg".to_owned()),
    };
    keyring.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Container;
    use samara_core::objects::Fetched;

    use super::*;

    fn secret(uid: &str, key: &str, text: &str) -> Fetched<Secret> {
        let mut secret = Secret::default();
        secret.metadata.uid = Some(uid.to_owned());
        secret.data = Some(BTreeMap::from([(key.to_owned(), ByteString(text.as_bytes().to_vec()))]));
        Ok(Arc::new(secret))
    }

    fn config(registry: &str, user: &str) -> String {
        format!(r#"{{"auths":{{"{registry}":{{"username":"{user}","password":"p"}}}}}}"#)
    }

    #[tokio::test]
    async fn secrets_come_before_the_node_and_the_more_particular_first_whichever_secret_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, config("r.test", "node")).unwrap();
        let secrets = BTreeMap::from([
            ("a".to_owned(), secret("1", ".dockerconfigjson", &config("*.test", "glob"))),
            ("b".to_owned(), secret("2", ".dockercfg", r#"{"r.test/team":{"username":"team","password":"p"}}"#)),
            ("c".to_owned(), secret("3", ".dockerconfigjson", &config("other.test", "other"))),
            ("d".to_owned(), secret("4", "password", "x")),
            ("e".to_owned(), secret("5", ".dockerconfigjson", "not json")),
        ]);
        let told = Mutex::new(Vec::new());
        let wish = Wish {
            pod_uid: "uid",
            namespace: "shop",
            container: &Container::default(),
            secrets: &secrets,
            account: None,
            record: &|event| told.lock().unwrap().push(event),
        };
        let node = NodeCredentials { docker: vec![file], ..NodeCredentials::default() };
        let found = offers(&wish, &Reference::parse("r.test/team/app").unwrap(), &node).await;
        let offer = |user: &str, right: Right| Offer {
            credential: Credential::Basic { username: user.to_owned(), password: "p".to_owned() },
            right,
        };
        let of = |name: &str, uid: &str| Right::Secret { name: name.to_owned(), uid: uid.to_owned() };
        assert_eq!(found, [offer("team", of("b", "2")), offer("glob", of("a", "1")), offer("node", Right::Node)]);
        let told: Vec<String> = told.into_inner().unwrap().into_iter().map(|event| event.message).collect();
        let want = "Unable to retrieve some image pull secrets (d, e); attempting to pull the image may not succeed.";
        assert_eq!(told, [want]);
    }
}
