//! A certificate with its key.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A pair from one PEM text: the chain, the leaf first, and the key.
#[derive(Debug)]
pub struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
    names: BTreeSet<String>,
    /// CN and Os of its subject.
    subject: (String, Vec<String>),
}

/// Not a pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPair(String);

impl Pair {
    /// Certificate and key may stand in any order. They must fit each other.
    pub fn parse(pem: &[u8]) -> Result<Self, NotAPair> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| NotAPair(format!("{what}: {error}"));
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong("certificate", &error))?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong("key", &error))?;
        let leaf = chain.first().ok_or_else(|| NotAPair("no certificate".into()))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| wrong("certificate", &error))?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|error| wrong("validity", &error));
        let (not_before, not_after) =
            (time(parsed.validity().not_before.timestamp())?, time(parsed.validity().not_after.timestamp())?);
        let (names, subject) = (names(&parsed), subject(&parsed));
        let pair = Self { chain, key, not_before, not_after, names, subject };
        pair.certified_key().and_then(|key| key.keys_match()).map_err(|error| wrong("certificate and key", &error))?;
        Ok(pair)
    }

    /// For the TLS server.
    pub fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        Ok(CertifiedKey::new(self.chain.clone(), any_supported_type(&self.key)?))
    }

    /// Whether it can be used now.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether all these are among its names.
    pub fn is_for<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        names.all(|name| self.names.contains(name))
    }

    /// Whether its subject is this node.
    pub fn is_node(&self, node_name: &str) -> bool {
        let (name, groups) = &self.subject;
        name.strip_prefix("system:node:") == Some(node_name) && groups.iter().any(|group| group == "system:nodes")
    }

    /// The end of its life.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// When to ask for the next one, at this share of its life.
    pub fn age_of(&self, share: f64) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        let aged = SignedDuration::try_from_secs_f64(life.as_secs_f64() * share).unwrap_or(SignedDuration::ZERO);
        self.not_before.checked_add(aged).unwrap_or(self.not_after)
    }
}

fn subject(certificate: &X509Certificate<'_>) -> (String, Vec<String>) {
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let name = certificate.subject().iter_common_name().find_map(text).unwrap_or_default();
    (name, certificate.subject().iter_organization().filter_map(text).collect())
}

/// DNS names and addresses of the certificate, as text.
fn names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::URI(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A pair for these names, good for this time.
    pub(in super::super) fn pem(names: &[&str], from: Timestamp, seconds: i64) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names");
        params.not_before = std::time::SystemTime::from(from).into();
        params.not_after = std::time::SystemTime::from(from + SignedDuration::from_secs(seconds)).into();
        format!("{}{}", params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
    }

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_pair_knows_its_life_and_its_names() {
        let pair = Pair::parse(pem(&["node-1", "10.0.0.1"], start(), 1000).as_bytes()).expect("a pair");
        let after = |seconds| start() + SignedDuration::from_secs(seconds);
        assert!(
            !pair.is_valid(after(-1))
                && pair.is_valid(start())
                && pair.is_valid(after(999))
                && !pair.is_valid(after(1000))
        );
        assert_eq!(pair.age_of(0.7), after(700));
        assert!(pair.is_for(["node-1", "10.0.0.1"].into_iter()));
        assert!(!pair.is_for(["10.0.0.2"].into_iter()));
    }

    #[test]
    fn a_key_of_another_certificate_is_no_pair() {
        let (a, b) = (pem(&["a"], start(), 10), pem(&["b"], start(), 10));
        let certificate = &a[..a.find("-----BEGIN PRIVATE").expect("a key")];
        let key = &b[b.find("-----BEGIN PRIVATE").expect("a key")..];
        assert!(Pair::parse(format!("{certificate}{key}").as_bytes()).is_err());
    }

    #[test]
    fn half_a_pair_is_none() {
        let whole = pem(&["a"], start(), 10);
        let key = whole.find("-----BEGIN PRIVATE").expect("a key");
        for part in [&whole[..key], &whole[key..], "", "garbage"] {
            assert!(Pair::parse(part.as_bytes()).is_err(), "{part:?}");
        }
    }
}
