//! The cluster's own certificate authority, and what it signs.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::addresses;

/// Who a client is: user name and group.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// `CN`.
    pub user: &'a str,
    /// `O`.
    pub group: Option<&'a str>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Certificate.
    pub certificate: String,
    /// PKCS#8 key.
    pub key: String,
}

/// The authority with its directory.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    ca: String,
}

impl Pki {
    /// Makes an authority, and writes its certificate and key, and the service accounts' ES256 key pair.
    pub fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(Identity { user: "samara-live", group: None });
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&key)?.pem();
        let pki = Self { dir: dir.to_owned(), ca: ca.clone(), issuer: Issuer::new(params, key) };
        pki.write("ca.crt", &ca)?;
        pki.write("ca.key", &pki.issuer.key().serialize_pem())?;
        let accounts = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        pki.write("service-accounts.key", &accounts.serialize_pem())?;
        pki.write("service-accounts.pub", &accounts.public_key_pem())?;
        Ok(pki)
    }

    /// Path of one of its files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Writes `<file>.crt` and `<file>.key` of a server.
    pub fn server(&self, file: &str, names: &[&str], ips: &[IpAddr]) -> Result<()> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.subject_alt_names.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = self.sign(params, Identity { user: file, group: None })?;
        self.write(&format!("{file}.crt"), &signed.certificate)?;
        self.write(&format!("{file}.key"), &signed.key)
    }

    /// Signs a client's certificate.
    pub fn client(&self, identity: Identity<'_>) -> Result<Signed> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, identity)
    }

    /// Signs a certificate for a client that is a server too, with names and addresses, which ends soon.
    pub fn passing(&self, identity: Identity<'_>, name: &str, ip: IpAddr, life: Duration) -> Result<Signed> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(ip));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        (params.not_before, params.not_after) = (now.into(), (now + life).into());
        self.sign(params, identity)
    }

    /// Writes `<file>.crt` and `<file>.key` of a client.
    pub fn client_files(&self, file: &str, identity: Identity<'_>) -> Result<()> {
        let signed = self.client(identity)?;
        self.write(&format!("{file}.crt"), &signed.certificate)?;
        self.write(&format!("{file}.key"), &signed.key)
    }

    /// Writes a kubeconfig of a new client, with everything in it.
    pub fn kubeconfig(&self, file: &str, identity: Identity<'_>) -> Result<PathBuf> {
        self.write(file, &self.user_kubeconfig(&addresses::api_server(), identity)?)?;
        Ok(self.path(file))
    }

    /// Text of a kubeconfig of a new client.
    pub fn user_kubeconfig(&self, server: &str, identity: Identity<'_>) -> Result<String> {
        self.signed_kubeconfig(server, &self.client(identity)?)
    }

    /// Text of a kubeconfig with this certificate.
    pub fn signed_kubeconfig(&self, server: &str, signed: &Signed) -> Result<String> {
        let user = json!({
            "client-certificate-data": BASE64.encode(&signed.certificate),
            "client-key-data": BASE64.encode(&signed.key),
        });
        self.config_text(server, &user)
    }

    /// A kubeconfig for any server address that the API server's certificate names, with this user entry.
    pub fn config_text(&self, server: &str, user: &serde_json::Value) -> Result<String> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "samara",
            "clusters": [{ "name": "samara", "cluster": { "server": server, "certificate-authority-data": BASE64.encode(&self.ca) } }],
            "users": [{ "name": "samara", "user": user }],
            "contexts": [{ "name": "samara", "context": { "cluster": "samara", "user": "samara" } }],
        });
        Ok(serde_yaml_ng::to_string(&config)?)
    }

    /// Writes a file that only root reads.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.path(file);
        let opened = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        let mut opened = opened.with_context(|| format!("open {}", path.display()))?;
        std::io::Write::write_all(&mut opened, text.as_bytes()).with_context(|| format!("write {}", path.display()))
    }

    fn sign(&self, mut params: CertificateParams, identity: Identity<'_>) -> Result<Signed> {
        params.distinguished_name = name(identity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer).with_context(|| format!("sign {}", identity.user))?;
        Ok(Signed { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn name(identity: Identity<'_>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, identity.user);
    if let Some(group) = identity.group {
        name.push(DnType::OrganizationName, group);
    }
    name
}
