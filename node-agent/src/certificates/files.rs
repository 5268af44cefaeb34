//! A certificate and its key, in PEM files.

use std::path::Path;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::CertificateError;

/// `tlsCertFile` and `tlsPrivateKeyFile`; they must fit each other.
pub fn read_serving(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let wrong = |path: &Path, reason: String| CertificateError::File { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|error| wrong(certificate, error.to_string()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "holds no certificate".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, any_supported_type(&private).map_err(CertificateError::Key)?);
    certified.keys_match().map_err(CertificateError::Key)?;
    Ok(certified)
}
