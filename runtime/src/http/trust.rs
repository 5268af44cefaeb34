//! Which servers a guest's TLS connections trust.

use std::io::Read as _;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::fs::Root;

/// Where distributions keep all authorities in one file.
const BUNDLES: [&str; 3] = ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem"];
/// Most of a bundle that is read; Mozilla's is a quarter of a megabyte.
const LARGEST: u64 = 16 << 20;

/// The authorities of the public web, those of the image's root, and the file named by the guest's `SSL_CERT_FILE`.
#[derive(Debug)]
pub(crate) struct Trust {
    root: Root,
    file: Option<String>,
    /// Made by the first TLS connection; an error stays one.
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Trust {
    pub(crate) fn new(root: Root, env: &[(String, String)]) -> Self {
        let file = env.iter().rev().find(|(name, _)| name == "SSL_CERT_FILE").map(|(_, file)| file.clone());
        Self { root, file, config: OnceLock::new() }
    }

    /// The error names the file that the guest asked for and that is of no use.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.config.get_or_init(|| self.make()).clone()
    }

    fn make(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for bundle in BUNDLES {
            // None of them has to be there.
            if let Ok(certificates) = self.read(bundle) {
                roots.add_parsable_certificates(certificates);
                break;
            }
        }
        if let Some(file) = &self.file {
            let certificates = self.read(file).map_err(|error| format!("SSL_CERT_FILE {file}: {error}"))?;
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(format!("SSL_CERT_FILE {file}: no certificate in it"));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn read(&self, path: &str) -> std::io::Result<Vec<CertificateDer<'static>>> {
        let mut pem = Vec::new();
        self.root.open_file(path)?.take(LARGEST).read_to_end(&mut pem)?;
        // What is no certificate among them is passed over.
        Ok(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect())
    }
}
