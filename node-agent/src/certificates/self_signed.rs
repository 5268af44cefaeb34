//! The serving certificate until a signed one is there.

use std::net::IpAddr;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::CertificateError;

/// Made anew with each start of the agent, and on no disk; so it needs no end.
pub fn self_signed(node_name: &str, addresses: &[IpAddr]) -> Result<CertifiedKey, CertificateError> {
    let (certificate, key) = generate(node_name, addresses)
        .map_err(|source| CertificateError::SelfSigned { name: node_name.to_owned(), source })?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::new(vec![certificate], any_supported_type(&key).map_err(CertificateError::Key)?))
}

fn generate(node_name: &str, addresses: &[IpAddr]) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![node_name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, node_name);
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok((params.self_signed(&key)?.der().clone(), key))
}
