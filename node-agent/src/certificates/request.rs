//! A certificate signing request, from making it to the certificate.

use std::net::IpAddr;
use std::pin::pin;

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _, SanType};
use sha2::{Digest as _, Sha256};

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) node_name: String,
    pub(super) kind: Kind,
}

/// For what.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// To be the node towards the API server.
    Client,
    /// To be the node towards whoever asks it, at these addresses.
    Serving(Vec<IpAddr>),
}

/// No certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The request cannot be made up.
    #[error("making the certificate request")]
    Make(#[from] rcgen::Error),
    /// The API server does not take it.
    #[error("creating certificate request {name}")]
    Create {
        /// The request.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Somebody said no. The same request would be refused again: the next one has a new key.
    #[error("certificate request {name} was {verdict}: {message}")]
    Refused {
        /// The request.
        name: String,
        /// `Denied` or `Failed`.
        verdict: String,
        /// Their words.
        message: String,
    },
    /// It is gone without a certificate: expired, or deleted.
    #[error("certificate request {name} is gone without a certificate")]
    Gone {
        /// The request.
        name: String,
    },
}

impl Wanted {
    fn signer(&self) -> &'static str {
        match self.kind {
            Kind::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Kind::Serving(_) => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(&self) -> [&'static str; 2] {
        match self.kind {
            Kind::Client => ["digital signature", "client auth"],
            Kind::Serving(_) => ["digital signature", "server auth"],
        }
    }

    /// Names that a serving certificate must have.
    pub(super) fn names(&self) -> Vec<String> {
        match &self.kind {
            Kind::Client => Vec::new(),
            Kind::Serving(addresses) => {
                addresses.iter().map(ToString::to_string).chain([self.node_name.clone()]).collect()
            }
        }
    }

    /// Always the same for the same key and wishes.
    pub(super) fn name(&self, key: &KeyPair) -> String {
        let mut hash = Sha256::new();
        let (signer, names) = (self.signer(), self.names());
        let parts = [signer, &self.node_name].into_iter().chain(names.iter().map(String::as_str));
        for part in parts {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(key.der_bytes());
        let prefix = match self.kind {
            Kind::Client => "node-csr",
            Kind::Serving(_) => "node-serving-csr",
        };
        format!("{prefix}-{}", hex::encode(hash.finalize()))
    }

    fn request(&self, key: &KeyPair) -> Result<CertificateSigningRequest, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", self.node_name));
        if let Kind::Serving(addresses) = &self.kind {
            params.subject_alt_names = vec![SanType::DnsName(self.node_name.clone().try_into()?)];
            params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        }
        let mut object = CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                request: ByteString(params.serialize_request(key)?.pem()?.into_bytes()),
                signer_name: self.signer().into(),
                usages: Some(self.usages().map(str::to_owned).to_vec()),
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        };
        object.metadata.name = Some(self.name(key));
        Ok(object)
    }
}

/// Asks, or takes up the request that was made before, and waits for the verdict, however long that takes.
/// `asked` is told the request's name when somebody may be needed to approve it.
pub(super) async fn obtain(
    client: Client,
    wanted: &Wanted,
    key: &KeyPair,
    asked: impl Fn(&str),
) -> Result<Vec<u8>, RequestError> {
    let requests = Api::<CertificateSigningRequest>::all(client);
    let request = wanted.request(key)?;
    let name = wanted.name(key);
    match requests.create(&PostParams::default(), &request).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(source) => return Err(RequestError::Create { name, source: Box::new(source) }),
    }
    asked(&name);
    let only_it = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watcher(requests, only_it).default_backoff());
    let mut seen = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(request) | watcher::Event::InitApply(request)) => {
                seen = true;
                if let Some(verdict) = verdict(&request) {
                    return verdict;
                }
            }
            Ok(watcher::Event::Delete(_)) => return Err(RequestError::Gone { name }),
            Ok(watcher::Event::InitDone) if !seen => return Err(RequestError::Gone { name }),
            // A list begins: what is not in it is gone.
            Ok(watcher::Event::Init) => seen = false,
            Ok(watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!(%error, request = name, "watching the certificate request"),
        }
    }
    Err(RequestError::Gone { name })
}

/// `None`: not yet.
fn verdict(request: &CertificateSigningRequest) -> Option<Result<Vec<u8>, RequestError>> {
    let status = request.status.as_ref()?;
    let refused =
        status.conditions.iter().flatten().find(|condition| ["Denied", "Failed"].contains(&condition.type_.as_str()));
    if let Some(refused) = refused {
        return Some(Err(RequestError::Refused {
            name: request.metadata.name.clone().unwrap_or_default(),
            verdict: refused.type_.clone(),
            message: refused.message.clone().unwrap_or_default(),
        }));
    }
    status
        .certificate
        .as_ref()
        .filter(|certificate| !certificate.0.is_empty())
        .map(|certificate| Ok(certificate.0.clone()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::{CertificateSigningRequestCondition, CertificateSigningRequestStatus};
    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

    use super::*;

    fn serving(ip: [u8; 4]) -> Wanted {
        Wanted { node_name: "n1".into(), kind: Kind::Serving(vec![ip.into()]) }
    }

    fn client() -> Wanted {
        Wanted { node_name: "n1".into(), kind: Kind::Client }
    }

    #[test]
    fn the_name_is_the_keys_and_the_wishs() {
        let (key, other) = (KeyPair::generate().expect("key"), KeyPair::generate().expect("key"));
        let name = client().name(&key);
        assert_eq!(name, client().name(&key));
        assert!(name.starts_with("node-csr-") && name.len() == "node-csr-".len() + 64);
        let different = [client().name(&other), serving([10, 0, 0, 1]).name(&key), serving([10, 0, 0, 2]).name(&key)];
        for other in different {
            assert_ne!(other, name);
        }
    }

    #[test]
    fn the_request_is_what_the_signers_want() {
        let key = KeyPair::generate().expect("key");
        for (wanted, signer, usage) in [
            (client(), "kubernetes.io/kube-apiserver-client-kubelet", "client auth"),
            (serving([10, 0, 0, 1]), "kubernetes.io/kubelet-serving", "server auth"),
        ] {
            let request = wanted.request(&key).expect("made");
            assert_eq!(request.spec.signer_name, signer);
            assert_eq!(request.spec.usages, Some(vec!["digital signature".to_owned(), usage.to_owned()]));
            let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0).expect("pem");
            let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).expect("a request");
            assert_eq!(parsed.certification_request_info.subject.to_string(), "O=system:nodes, CN=system:node:n1");
            let names = parsed.requested_extensions().into_iter().flatten().count();
            assert_eq!(names > 0, matches!(wanted.kind, Kind::Serving(_)), "the client signer refuses names");
        }
    }

    #[test]
    fn a_verdict_is_a_certificate_or_a_refusal() {
        let with = |condition: Option<&str>, certificate: Option<&[u8]>| {
            let condition = condition.map(|type_| CertificateSigningRequestCondition {
                type_: type_.into(),
                status: "True".into(),
                message: Some("why".into()),
                ..CertificateSigningRequestCondition::default()
            });
            let status = CertificateSigningRequestStatus {
                conditions: condition.map(|condition| vec![condition]),
                certificate: certificate.map(|bytes| ByteString(bytes.to_vec())),
            };
            verdict(&CertificateSigningRequest { status: Some(status), ..CertificateSigningRequest::default() })
        };
        assert!(with(None, None).is_none());
        assert!(with(Some("Approved"), None).is_none(), "approved, not signed yet");
        assert!(with(Some("Approved"), Some(b"")).is_none());
        assert_eq!(with(Some("Approved"), Some(b"pem")).expect("there").expect("signed"), b"pem");
        for refused in ["Denied", "Failed"] {
            let error = with(Some(refused), None).expect("a verdict").expect_err("refused").to_string();
            assert!(error.contains(refused) && error.contains("why"), "{error}");
        }
    }
}
