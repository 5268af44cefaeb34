//! Who is it?

use std::time::Duration;

use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::config::ServerConfig;
use super::super::listener::Peer;
use super::client_ca::ClientCa;
use super::memory::Memory;
use super::{AccessError, User};

/// How long a token that is nobody's stays that without asking again.
const UNKNOWN_TTL: Duration = Duration::from_secs(10);
/// A longer header is no token.
const LONGEST_TOKEN: usize = 16 << 10;

/// Why a request is nobody's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unauthenticated {
    #[error("no certificate and no token")]
    NoCredentials,
    #[error("the token is nobody's")]
    UnknownToken,
    #[error("the API server could not be asked about the token")]
    Review(#[source] kube::Error),
}

pub(super) struct Authentication {
    certificates: Option<ClientCa>,
    reviews: Option<Api<TokenReview>>,
    token_ttl: Duration,
    anonymous: bool,
    /// By the token's digest: tokens themselves are not kept.
    known: Memory<[u8; 32], Option<User>>,
}

impl Authentication {
    pub(super) fn new(config: &ServerConfig, client: Client) -> Result<Self, AccessError> {
        Ok(Self {
            certificates: config.client_ca.as_deref().map(ClientCa::open).transpose()?,
            reviews: config.token_review.then(|| Api::all(client)),
            token_ttl: config.token_ttl,
            anonymous: config.anonymous,
            known: Memory::new(),
        })
    }

    /// A certificate first, then a token; a token that is nobody's is not anonymous.
    pub(super) async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, Unauthenticated> {
        if let Some(user) = self.certified(peer) {
            return Ok(user);
        }
        match bearer(headers) {
            Some(token) => self.reviewed(token).await,
            None if self.anonymous => Ok(User::anonymous()),
            None => Err(Unauthenticated::NoCredentials),
        }
    }

    fn certified(&self, peer: &Peer) -> Option<User> {
        let (certificate, intermediates) = peer.certificates.split_first()?;
        // Checked with every request: a connection may outlive the certificate.
        let vouched = self.certificates.as_ref()?.vouches_for(certificate, intermediates);
        if vouched { subject(certificate) } else { None }
    }

    async fn reviewed(&self, token: &str) -> Result<User, Unauthenticated> {
        let reviews = self.reviews.as_ref().ok_or(Unauthenticated::UnknownToken)?;
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.known.get(&key, Instant::now()) {
            return known.ok_or(Unauthenticated::UnknownToken);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let status = reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(Unauthenticated::Review)?
            .status
            .unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(User::from);
        let ttl = if user.is_some() { self.token_ttl } else { UNKNOWN_TTL };
        self.known.keep(key, user.clone(), ttl, Instant::now());
        user.ok_or(Unauthenticated::UnknownToken)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST_TOKEN).then_some(token)
}

/// CN and Os of a certificate. `None` without a CN.
fn subject(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let name = parsed.subject().iter_common_name().next().and_then(text).filter(|name| !name.is_empty())?;
    Some(User::certified(name, parsed.subject().iter_organization().filter_map(text).collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::super::super::access::testing;
    use super::*;

    struct Ca(CertifiedIssuer<'static, KeyPair>);

    impl Ca {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA"))
        }

        fn client(&self, name: &str, groups: &[&str], usage: ExtendedKeyUsagePurpose) -> Peer {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            for group in groups {
                params.distinguished_name.push(DnType::OrganizationName, *group);
            }
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&KeyPair::generate().expect("key"), &self.0).expect("certificate");
            Peer { certificates: vec![certificate.der().clone()].into(), address: None }
        }

        fn trusted_by(&self, client: Client) -> Authentication {
            let file = tempfile::NamedTempFile::new().expect("a file");
            fs::write(file.path(), self.0.pem()).expect("written");
            let config = ServerConfig { client_ca: Some(file.path().to_owned()), ..ServerConfig::default() };
            Authentication::new(&config, client).expect("a right CA")
        }
    }

    fn token(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"))])
    }

    #[tokio::test]
    async fn a_certificate_of_our_ca_is_its_subject() {
        let ca = Ca::new();
        let peer = ca.client("admin", &["system:masters"], ExtendedKeyUsagePurpose::ClientAuth);
        let user = ca.trusted_by(testing::silent()).authenticate(&peer, &HeaderMap::new()).await.expect("certified");
        assert_eq!(user.name, "admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
    }

    #[tokio::test]
    async fn a_foreign_certificate_is_nobody() {
        let peer = Ca::new().client("admin", &["system:masters"], ExtendedKeyUsagePurpose::ClientAuth);
        let refused = Ca::new().trusted_by(testing::silent()).authenticate(&peer, &HeaderMap::new()).await;
        assert!(matches!(refused, Err(Unauthenticated::NoCredentials)), "{refused:?}");
    }

    #[tokio::test]
    async fn a_server_certificate_is_no_client() {
        let ca = Ca::new();
        let peer = ca.client("admin", &[], ExtendedKeyUsagePurpose::ServerAuth);
        let refused = ca.trusted_by(testing::silent()).authenticate(&peer, &HeaderMap::new()).await;
        assert!(matches!(refused, Err(Unauthenticated::NoCredentials)), "{refused:?}");
    }

    #[tokio::test]
    async fn a_token_is_reviewed_once_in_two_minutes() {
        tokio::time::pause();
        let (client, asked) = testing::answering(|_path, body| {
            let good = body["spec"]["token"] == "good";
            serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {},
                "status": {"authenticated": good, "user": {"username": "sa", "groups": ["g"]}}})
        });
        let authentication = Authentication::new(&ServerConfig::default(), client).expect("no CA to be wrong");
        for _ in 0..3 {
            let user = authentication.authenticate(&Peer::default(), &token("good")).await.expect("known");
            assert_eq!(
                (user.name.as_str(), user.groups.as_slice()),
                ("sa", &["g".to_owned(), "system:authenticated".to_owned()][..])
            );
        }
        assert_eq!(asked(), 1);
        tokio::time::advance(Duration::from_secs(121)).await;
        authentication.authenticate(&Peer::default(), &token("good")).await.expect("known");
        assert_eq!(asked(), 2);
    }

    #[tokio::test]
    async fn a_token_that_is_nobodys_is_not_taken_for_its_user() {
        let (client, asked) = testing::answering(|_path, _body| {
            serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {},
                "status": {"authenticated": false, "user": {"username": "sa"}}})
        });
        let config = ServerConfig { anonymous: true, ..ServerConfig::default() };
        let authentication = Authentication::new(&config, client).expect("no CA to be wrong");
        for _ in 0..2 {
            let refused = authentication.authenticate(&Peer::default(), &token("bad")).await;
            assert!(matches!(refused, Err(Unauthenticated::UnknownToken)), "{refused:?}");
        }
        assert_eq!(asked(), 1, "the refusal is remembered");
    }

    #[tokio::test]
    async fn nobody_is_refused_unless_anonymous_is_allowed() {
        let ask = |anonymous| async move {
            let config = ServerConfig { anonymous, ..ServerConfig::default() };
            let authentication = Authentication::new(&config, testing::silent()).expect("no CA to be wrong");
            authentication.authenticate(&Peer::default(), &HeaderMap::new()).await
        };
        assert!(matches!(ask(false).await, Err(Unauthenticated::NoCredentials)));
        assert_eq!(ask(true).await.expect("allowed").name, "system:anonymous");
    }

    #[test]
    fn only_a_bearer_token_is_a_token() {
        let of = |value: &str| {
            bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header"))]))
                .map(str::to_owned)
        };
        assert_eq!(of("Bearer abc"), Some("abc".into()));
        assert_eq!(of("bearer  abc "), Some("abc".into()));
        assert_eq!(of("Basic abc"), None);
        assert_eq!(of("Bearer"), None);
        assert_eq!(of(&format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1))), None);
    }
}
