//! Certificates taken as they are shown: the peer must hold the key, and whether to believe the rest is decided elsewhere.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

/// For both ends. A server asks for a client's certificate with it and accepts to get none.
#[derive(Debug)]
pub(crate) struct AnyCertificate(WebPkiSupportedAlgorithms);

type Signed = Result<HandshakeSignatureValid, rustls::Error>;

impl AnyCertificate {
    pub(crate) fn new(provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self(provider.signature_verification_algorithms))
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, text: &[u8], of: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Signed {
        verify_tls12_signature(text, of, signed, &self.0)
    }

    fn verify_tls13_signature(&self, text: &[u8], of: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Signed {
        verify_tls13_signature(text, of, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, text: &[u8], of: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Signed {
        verify_tls12_signature(text, of, signed, &self.0)
    }

    fn verify_tls13_signature(&self, text: &[u8], of: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Signed {
        verify_tls13_signature(text, of, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
