//! Who may use an image that is here already (KEP-2535; kubelet: `images/pullmanager`).
//!
//! What was pulled with a secret may be used by pods that have the same secret, or that show the registry another one that
//! opens the image. What anybody could pull, or the node itself, may be used by all of its pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `imagePullCredentialsVerificationPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VerificationPolicy {
    /// Whatever is here may be used.
    NeverVerify,
    /// What no pod's pull brought here may be used.
    #[default]
    NeverVerifyPreloadedImages,
    /// What is on the list may be used (`preloadedImagesVerificationAllowlist`).
    NeverVerifyAllowlistedImages(Allowlist),
    /// Everything is checked.
    AlwaysVerify,
}

impl VerificationPolicy {
    /// As a configuration file has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NeverVerify => "NeverVerify",
            Self::NeverVerifyPreloadedImages => "NeverVerifyPreloadedImages",
            Self::NeverVerifyAllowlistedImages(_) => "NeverVerifyAllowlistedImages",
            Self::AlwaysVerify => "AlwaysVerify",
        }
    }

    /// What is on the list, as written.
    pub fn allowlist(&self) -> &[String] {
        match self {
            Self::NeverVerifyAllowlistedImages(list) => &list.0,
            Self::NeverVerify | Self::NeverVerifyPreloadedImages | Self::AlwaysVerify => &[],
        }
    }
}

/// Images without tag or digest, or beginnings of them that end in `/*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowlist(Vec<String>);

/// A pull secret by which an image was pulled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImagePullSecret {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Of what the secret held for the image. Empty: not known.
    #[serde(rename = "credentialHash", default)]
    pub credential_hash: String,
}

/// A service account by whose token an image was pulled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImagePullServiceAccount {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// How an image was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagePullCredentials {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_secrets: Vec<ImagePullSecret>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_service_accounts: Vec<ImagePullServiceAccount>,
    /// By nothing, or by what the node has: all of its pods may.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub node_pods_accessible: bool,
}

/// How one image was opened, by the names that it was pulled by, without tag or digest.
pub type CredentialMapping = BTreeMap<String, ImagePullCredentials>;

/// What is known of how an image came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// No pod's pull is known of.
    Unknown,
    /// A pull began, and how it ended is not known.
    Intended,
    /// A pod's pull brought it.
    Pulled(&'a CredentialMapping),
}

/// Whether a pod may use an image that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access<'a> {
    Granted,
    /// The registry has to be asked.
    Pull,
    /// It depends on what the pod has.
    Shown(&'a ImagePullCredentials),
}

/// What follows from what the pod has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Granted,
    /// And this secret counts from now on: another with the same content, or the same with other content.
    GrantedAlsoTo(ImagePullSecret),
    Pull,
}

/// More secrets than these are not noted while looking.
const MOST_NOTED: usize = 100;

/// Decides as far as it can be without the pod's credentials, which are costly to look up. `name` has neither tag nor digest.
pub fn access<'a>(policy: &VerificationPolicy, name: &str, origin: Origin<'a>) -> Access<'a> {
    let verify = match policy {
        VerificationPolicy::NeverVerify => false,
        VerificationPolicy::NeverVerifyPreloadedImages => origin != Origin::Unknown,
        VerificationPolicy::NeverVerifyAllowlistedImages(list) => !list.has(name),
        VerificationPolicy::AlwaysVerify => true,
    };
    let Origin::Pulled(mapping) = origin else {
        return if verify { Access::Pull } else { Access::Granted };
    };
    match mapping.get(name) {
        _ if !verify => Access::Granted,
        None => Access::Pull,
        Some(known) if known.node_pods_accessible => Access::Granted,
        Some(known) if known.kubernetes_secrets.is_empty() && known.kubernetes_service_accounts.is_empty() => {
            Access::Pull
        }
        Some(known) => Access::Shown(known),
    }
}

impl ImagePullCredentials {
    /// Whether a pod with these opens what was opened so.
    pub fn shown(&self, secrets: &[ImagePullSecret], account: Option<&ImagePullServiceAccount>) -> Shown {
        let may_note = self.kubernetes_secrets.len() < MOST_NOTED;
        for (secret, known) in
            secrets.iter().flat_map(|secret| self.kubernetes_secrets.iter().map(move |known| (secret, known)))
        {
            let same_content = !known.credential_hash.is_empty() && secret.credential_hash == known.credential_hash;
            let same_secret = secret.is(known);
            match (same_content, same_secret) {
                (true, true) => return Shown::Granted,
                (true, false) if !may_note => return Shown::Granted,
                (true, false) | (false, true) if may_note => return Shown::GrantedAlsoTo(secret.clone()),
                (false, _) | (true, false) => {}
            }
        }
        match account.is_some_and(|account| self.kubernetes_service_accounts.contains(account)) {
            true => Shown::Granted,
            false => Shown::Pull,
        }
    }

    /// Takes up how it was opened once more. Whether that is news.
    pub fn merge(&mut self, new: Self) -> bool {
        if self.node_pods_accessible {
            return false;
        }
        if new.node_pods_accessible {
            *self = Self { node_pods_accessible: true, ..Self::default() };
            return true;
        }
        let before = self.clone();
        for secret in new.kubernetes_secrets {
            match self.kubernetes_secrets.iter_mut().find(|known| secret.is(known)) {
                Some(known) => known.credential_hash = secret.credential_hash,
                None => self.kubernetes_secrets.push(secret),
            }
        }
        for account in new.kubernetes_service_accounts {
            if !self.kubernetes_service_accounts.contains(&account) {
                self.kubernetes_service_accounts.push(account);
            }
        }
        self.kubernetes_secrets.sort();
        self.kubernetes_service_accounts.sort();
        *self != before
    }
}

impl ImagePullSecret {
    /// The same object, whatever it holds.
    fn is(&self, other: &Self) -> bool {
        (&self.uid, &self.namespace, &self.name) == (&other.uid, &other.namespace, &other.name)
    }
}

impl Allowlist {
    /// Refuses what the kubelet refuses: tags, digests, stars elsewhere than in a last `/*`.
    pub fn parse(patterns: Vec<String>) -> Result<Self, String> {
        for pattern in &patterns {
            let name = pattern.strip_suffix("/*").unwrap_or(pattern);
            let last = name.rsplit('/').next().unwrap_or_default();
            let tagged = name.contains('/') && last.contains(':') && !pattern.ends_with("/*");
            if name.is_empty()
                || name.contains('*')
                || name.contains('@')
                || tagged
                || name.contains(char::is_whitespace)
            {
                return Err(format!(
                    "{pattern:?} is neither an image without tag and digest nor the beginning of one that ends in /*"
                ));
            }
        }
        Ok(Self(patterns))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: &str, hash: &str) -> ImagePullSecret {
        ImagePullSecret { uid: uid.into(), namespace: "shop".into(), name: "pull".into(), credential_hash: hash.into() }
    }

    fn account(uid: &str) -> ImagePullServiceAccount {
        ImagePullServiceAccount { uid: uid.into(), namespace: "shop".into(), name: "web".into() }
    }

    fn by(secrets: &[ImagePullSecret], accounts: &[ImagePullServiceAccount]) -> ImagePullCredentials {
        ImagePullCredentials {
            kubernetes_secrets: secrets.to_vec(),
            kubernetes_service_accounts: accounts.to_vec(),
            node_pods_accessible: false,
        }
    }

    fn all() -> ImagePullCredentials {
        ImagePullCredentials { node_pods_accessible: true, ..ImagePullCredentials::default() }
    }

    #[test]
    fn the_policy_and_the_record_decide_before_anything_is_looked_up() {
        use VerificationPolicy::{AlwaysVerify, NeverVerify, NeverVerifyAllowlistedImages, NeverVerifyPreloadedImages};
        let listed = NeverVerifyAllowlistedImages(Allowlist::parse(vec!["r.test/base/*".into()]).unwrap());
        let record = CredentialMapping::from([
            ("r.test/open".to_owned(), all()),
            ("r.test/unclear".to_owned(), ImagePullCredentials::default()),
            ("r.test/secret".to_owned(), by(&[secret("1", "h")], &[])),
            ("r.test/base/x".to_owned(), by(&[secret("1", "h")], &[])),
        ]);
        let pulled = Origin::Pulled(&record);
        let depends = Access::Shown(&record["r.test/secret"]);
        for (policy, name, origin, expected) in [
            (&NeverVerify, "r.test/secret", pulled, Access::Granted),
            (&NeverVerifyPreloadedImages, "r.test/secret", Origin::Unknown, Access::Granted),
            (&NeverVerifyPreloadedImages, "r.test/secret", Origin::Intended, Access::Pull),
            (&NeverVerifyPreloadedImages, "r.test/secret", pulled, depends),
            (&NeverVerifyPreloadedImages, "r.test/open", pulled, Access::Granted),
            (&NeverVerifyPreloadedImages, "r.test/unclear", pulled, Access::Pull),
            (&NeverVerifyPreloadedImages, "r.test/other-name", pulled, Access::Pull),
            (&listed, "r.test/base/x", pulled, Access::Granted),
            (&listed, "r.test/secret", Origin::Unknown, Access::Pull),
            (&AlwaysVerify, "r.test/secret", Origin::Unknown, Access::Pull),
            (&AlwaysVerify, "r.test/open", pulled, Access::Granted),
        ] {
            assert_eq!(access(policy, name, origin), expected, "{policy:?} {name} {origin:?}");
        }
    }

    #[test]
    fn the_same_secret_or_the_same_content_opens_and_is_noted() {
        let known = by(&[secret("1", "h"), secret("2", "")], &[account("a")]);
        for (secrets, who, expected) in [
            (vec![], None, Shown::Pull),
            (vec![secret("1", "h")], None, Shown::Granted),
            (vec![secret("1", "new")], None, Shown::GrantedAlsoTo(secret("1", "new"))),
            (vec![secret("9", "h")], None, Shown::GrantedAlsoTo(secret("9", "h"))),
            (vec![secret("9", "x")], None, Shown::Pull),
            // An unknown hash is nobody's.
            (vec![secret("9", "")], None, Shown::Pull),
            (vec![secret("9", "x"), secret("1", "h")], None, Shown::Granted),
            (vec![], Some(account("a")), Shown::Granted),
            (vec![], Some(account("b")), Shown::Pull),
        ] {
            assert_eq!(known.shown(&secrets, who.as_ref()), expected, "{secrets:?} {who:?}");
        }
        let many: Vec<_> = (0..MOST_NOTED).map(|uid| secret(&uid.to_string(), "h")).collect();
        let known = by(&many, &[]);
        assert_eq!(known.shown(&[secret("new", "h")], None), Shown::Granted);
        assert_eq!(known.shown(&[secret("1", "new")], None), Shown::Pull);
    }

    #[test]
    fn a_record_grows_until_all_may() {
        let mut record = ImagePullCredentials::default();
        assert!(!record.merge(ImagePullCredentials::default()));
        assert!(record.merge(by(&[secret("2", "h")], &[])));
        assert!(!record.merge(by(&[secret("2", "h")], &[])));
        assert!(record.merge(by(&[secret("2", "i"), secret("1", "h")], &[account("a")])));
        assert_eq!(record, by(&[secret("1", "h"), secret("2", "i")], &[account("a")]));
        assert!(record.merge(all()));
        assert_eq!(record, all());
        assert!(!record.merge(by(&[secret("1", "h")], &[])));
    }

    #[test]
    fn a_list_takes_what_the_kubelet_takes() {
        for (pattern, good) in [
            ("r.test/a", true),
            ("r.test:5000/a", true),
            ("r.test/a/*", true),
            ("r.test:5000/*", true),
            ("", false),
            ("*", false),
            ("/*", false),
            (" r.test/a", false),
            ("r.test/a*", false),
            ("r.test/*/b", false),
            ("r.test/a:1", false),
            ("r.test/a@sha256:0", false),
        ] {
            assert_eq!(Allowlist::parse(vec![pattern.to_owned()]).is_ok(), good, "{pattern:?}");
        }
        let list = Allowlist::parse(vec!["r.test/a".into(), "r.test/b/*".into()]).unwrap();
        for (name, has) in [("r.test/a", true), ("r.test/ab", false), ("r.test/b/c/d", true), ("r.test/b", false)] {
            assert_eq!(list.has(name), has, "{name}");
        }
    }

    #[test]
    fn a_record_is_written_as_the_kubelet_writes_it() {
        let text = serde_json::to_string(&by(&[secret("1", "h")], &[account("a")])).unwrap();
        let expected = r#"{"kubernetesSecrets":[{"uid":"1","namespace":"shop","name":"pull","credentialHash":"h"}],"kubernetesServiceAccounts":[{"uid":"a","namespace":"shop","name":"web"}]}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::to_string(&all()).unwrap(), r#"{"nodePodsAccessible":true}"#);
        assert_eq!(
            serde_json::from_str::<ImagePullCredentials>(&text).unwrap(),
            by(&[secret("1", "h")], &[account("a")])
        );
    }
}
