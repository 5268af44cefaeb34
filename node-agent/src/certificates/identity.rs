//! The node's own client certificate in a kubeconfig: the one that it came with, and the newer one that we were given since.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::config::AuthInfo;
use secrecy::ExposeSecret as _;

use super::{Pair, Store};

/// The pair of a kubeconfig's user, if it has one that can be read.
fn pair(user: &AuthInfo) -> Option<Pair> {
    let decoded = |text: &str| STANDARD.decode(text).ok();
    let certificate = match (&user.client_certificate_data, &user.client_certificate) {
        (Some(data), _) => decoded(data)?,
        (None, Some(file)) => std::fs::read(file).ok()?,
        (None, None) => return None,
    };
    let key = match (&user.client_key_data, &user.client_key) {
        (Some(data), _) => decoded(data.expose_secret())?,
        (None, Some(file)) => std::fs::read(file).ok()?,
        (None, None) => return None,
    };
    // Ours are both in one file.
    if certificate == key {
        return Pair::parse(&certificate).ok();
    }
    Pair::parse(&[certificate, b"\n".to_vec(), key].concat()).ok()
}

/// The newest certificate of this node: the kubeconfig's, or one that was given to us since. `None` if the kubeconfig is not
/// this node's by certificate: then it is renewed by whoever made it (kubelet: `server.go`, `buildKubeletClientConfig`).
pub(super) fn newest(user: &AuthInfo, store: &Store, node_name: &str) -> Option<Pair> {
    let given = pair(user).filter(|pair| pair.is_node(node_name))?;
    let since = store.current().filter(|kept| kept.is_node(node_name) && kept.not_after() > given.not_after());
    Some(since.unwrap_or(given))
}

/// Puts a newer certificate that we keep in the place of the kubeconfig's own.
pub fn use_newest(user: &mut AuthInfo, store: &Store, node_name: &str) {
    let newer = newest(user, store, node_name).filter(|pair| pair.is_valid(Timestamp::now()));
    let given = pair(user).map(|pair| pair.not_after());
    if newer.is_some_and(|newer| Some(newer.not_after()) != given) {
        let kept = store.current_path().display().to_string();
        (user.client_certificate, user.client_certificate_data) = (Some(kept.clone()), None);
        (user.client_key, user.client_key_data) = (Some(kept), None);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    /// A certificate of this subject, good from now on.
    fn issued(name: &str, group: &str, seconds: i64) -> (String, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, name);
        let now = Timestamp::now();
        params.not_before = std::time::SystemTime::from(now).into();
        params.not_after = std::time::SystemTime::from(now + SignedDuration::from_secs(seconds)).into();
        (params.self_signed(&key).expect("signed").pem(), key)
    }

    fn user(name: &str, group: &str, seconds: i64) -> AuthInfo {
        let (certificate, key) = issued(name, group, seconds);
        AuthInfo {
            client_certificate_data: Some(STANDARD.encode(certificate)),
            client_key_data: Some(STANDARD.encode(key.serialize_pem()).into()),
            ..AuthInfo::default()
        }
    }

    const NODE: (&str, &str) = ("system:node:n1", "system:nodes");

    #[test]
    fn only_a_kubeconfig_that_is_this_node_by_certificate_is_of_our_keeping() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::new(dir.path(), "kubelet-client");
        let table = [
            (user(NODE.0, NODE.1, 100), true),
            (user("system:node:n2", NODE.1, 100), false),
            (user(NODE.0, "system:masters", 100), false),
            (AuthInfo { token: Some("abc".to_owned().into()), ..AuthInfo::default() }, false),
            (AuthInfo { client_certificate: Some("/nonexistent".into()), ..AuthInfo::default() }, false),
        ];
        for (index, (user, ours)) in table.into_iter().enumerate() {
            assert_eq!(newest(&user, &store, "n1").is_some(), ours, "{index}");
        }
    }

    #[test]
    fn a_certificate_that_we_were_given_since_takes_the_place_of_an_older_one_and_of_no_newer_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::new(dir.path(), "kubelet-client");
        let (certificate, key) = issued(NODE.0, NODE.1, 1000);
        store.keep(certificate.as_bytes(), &key, Timestamp::now()).expect("kept");

        let mut older = user(NODE.0, NODE.1, 100);
        use_newest(&mut older, &store, "n1");
        let kept = store.current_path().display().to_string();
        assert_eq!((older.client_certificate, older.client_key), (Some(kept.clone()), Some(kept)));
        assert!(older.client_certificate_data.is_none() && older.client_key_data.is_none());

        let mut newer = user(NODE.0, NODE.1, 2000);
        use_newest(&mut newer, &store, "n1");
        assert!(newer.client_certificate.is_none() && newer.client_certificate_data.is_some());

        let mut of_another = user("admin", "system:masters", 100);
        use_newest(&mut of_another, &store, "n1");
        assert!(of_another.client_certificate.is_none());
    }
}
