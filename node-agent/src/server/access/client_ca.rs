//! The authority of clients' certificates, read anew when its file changes (kubelet: `dynamiccertificates`).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::AccessError;

/// `authentication.x509.clientCAFile`.
#[derive(Debug)]
pub(super) struct ClientCa {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Of the file that was looked at last, good or not: what is broken is complained of once.
    stamp: Option<Stamp>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Tells one content of a file from the next: device, inode, size, time of change in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl ClientCa {
    /// Reads the file, which must be right at the start.
    pub(super) fn open(path: &Path) -> Result<Self, AccessError> {
        let known = Known { stamp: stamp(path).ok(), verifier: read(path)? };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    /// Whether it vouches for the certificate, as its file is now. A file that is broken or gone changes nothing.
    pub(super) fn vouches_for(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        self.verifier().verify_client_cert(leaf, intermediates, UnixTime::now()).is_ok()
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path).ok();
        if now.is_some() && now != known.stamp {
            known.stamp = now;
            match read(&self.path) {
                Ok(verifier) => {
                    tracing::info!(file = %self.path.display(), "the clients' authority has changed");
                    known.verifier = verifier;
                }
                Err(error) => tracing::error!(%error, "keeping the clients' authority that was"),
            }
        }
        known.verifier.clone()
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let of = |file: Metadata| (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec());
    fs::metadata(path).map(of)
}

fn read(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, AccessError> {
    let wrong = |reason: String| AccessError::ClientCa { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".into()));
    }
    WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("an authority")
    }

    fn client(authority: &CertifiedIssuer<'static, KeyPair>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&KeyPair::generate().expect("key"), authority).expect("certificate").der().clone()
    }

    #[test]
    fn a_file_that_changes_is_read_anew_and_one_that_breaks_is_not_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.crt");
        let (old, new) = (authority(), authority());
        fs::write(&path, old.pem()).expect("written");
        let ca = ClientCa::open(&path).expect("an authority");
        let vouches = || [&old, &new].map(|authority| ca.vouches_for(&client(authority), &[]));
        assert_eq!(vouches(), [true, false]);

        // As Kubernetes mounts it: another file takes the name.
        fs::write(dir.path().join("next"), format!("{}{}", old.pem(), new.pem())).expect("written");
        fs::rename(dir.path().join("next"), &path).expect("renamed");
        assert_eq!(vouches(), [true, true]);

        fs::write(&path, "half a certificate").expect("broken");
        assert_eq!(vouches(), [true, true]);
        fs::remove_file(&path).expect("removed");
        assert_eq!(vouches(), [true, true]);
        fs::write(&path, new.pem()).expect("written");
        assert_eq!(vouches(), [false, true]);
    }

    #[test]
    fn a_client_ca_that_is_missing_or_empty_stops_the_start_by_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for path in [file.path(), Path::new("/nonexistent/ca.crt")] {
            let error = ClientCa::open(path).expect_err("no CA").to_string();
            assert!(error.starts_with(&format!("client CA {}: ", path.display())), "{error}");
        }
    }
}
