//! TLS for `https` probes: as the kubelet, without looking at the certificate.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::TlsConnector;

use crate::any_certificate::AnyCertificate;

/// A connector that takes any certificate: a probe asks whether somebody answers, not who.
pub(super) fn connector() -> TlsConnector {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(ring::default_provider());
        let any = AnyCertificate::new(&provider);
        Arc::new(config(provider, any))
    });
    TlsConnector::from(config.clone())
}

#[expect(clippy::expect_used, reason = "ring's own versions are always in ring's provider")]
fn config(provider: Arc<CryptoProvider>, verifier: Arc<AnyCertificate>) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}
