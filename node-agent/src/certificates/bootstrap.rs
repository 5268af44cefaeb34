//! From a bootstrap token to a client certificate and a kubeconfig (kubelet: `certificate/bootstrap`).

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{AuthInfo, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};

use super::request::{Kind, RequestError, Wanted, obtain};
use super::{CertificatesConfig, Store, StoreError};
use crate::api::{self, ApiConfig, ApiError, KubeconfigError};

/// Names in the kubeconfig that is written, as the kubelet gives them.
const CLUSTER: &str = "default-cluster";
const USER: &str = "default-auth";
const CONTEXT: &str = "default-context";

/// Between two attempts while the API server is away or says no.
const RETRY: Duration = Duration::from_secs(5);

/// The node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The bootstrap kubeconfig is wrong.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// It does not lead to an API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The certificate or its key cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kubeconfig cannot be written.
    #[error("writing kubeconfig {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Whether a certificate had to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrapped {
    /// The kubeconfig is good as it is.
    NotNeeded,
    /// It was written now.
    Now,
}

/// Sees to it that the kubeconfig exists. Without a bootstrap kubeconfig that is the operator's matter.
/// Waits for the API server and for the certificate as long as it takes.
pub async fn ensure_client(
    api: &ApiConfig,
    certificates: &CertificatesConfig,
    node_name: &str,
) -> Result<Bootstrapped, BootstrapError> {
    let Some(bootstrap) = &api.bootstrap_kubeconfig else {
        return Ok(Bootstrapped::NotNeeded);
    };
    let store = certificates.client_store();
    if is_good(&api.kubeconfig, &store, Timestamp::now()) {
        return Ok(Bootstrapped::NotNeeded);
    }
    let config = api::load(bootstrap, api.context.as_deref()).await?;
    let client = api::connect(&config)?.client;
    tracing::info!(bootstrap = %bootstrap.display(), "asking for this node's client certificate");
    let wanted = Wanted { node_name: node_name.to_owned(), kind: Kind::Client };
    let certificate = loop {
        let key = store.next_key()?;
        let asked = |name: &str| tracing::info!(request = name, "waiting for the client certificate");
        match obtain(client.clone(), &wanted, &key, asked).await {
            Ok(certificate) => break store.keep(&certificate, &key, Timestamp::now())?,
            Err(error) => {
                if let RequestError::Refused { .. } = error {
                    store.forget_next_key();
                }
                tracing::warn!(error = %format!("{:#}", anyhow::Error::new(error)), "no client certificate yet; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    write(&api.kubeconfig, bootstrap, api.context.as_deref(), &store)?;
    tracing::info!(kubeconfig = %api.kubeconfig.display(), until = %certificate.not_after(), "this node has its client certificate");
    Ok(Bootstrapped::Now)
}

/// It exists, and if its certificate is of our keeping, that is still good.
fn is_good(kubeconfig: &Path, store: &Store, now: Timestamp) -> bool {
    kubeconfig.exists() && (!uses(kubeconfig, store) || store.current().is_some_and(|pair| pair.is_valid(now)))
}

/// Whether the kubeconfig's user has the certificate that we keep.
fn uses(kubeconfig: &Path, store: &Store) -> bool {
    let ours = std::path::absolute(store.current_path()).unwrap_or_else(|_| store.current_path());
    let ours = ours.display().to_string();
    Kubeconfig::read_from(kubeconfig).is_ok_and(|config| {
        config
            .auth_infos
            .iter()
            .filter_map(|user| user.auth_info.as_ref())
            .any(|user| user.client_certificate.as_deref() == Some(&ours))
    })
}

/// The bootstrap's cluster, with our certificate for a user.
fn write(path: &Path, bootstrap: &Path, context: Option<&str>, store: &Store) -> Result<(), BootstrapError> {
    let read = Kubeconfig::read_from(bootstrap)
        .map_err(|source| KubeconfigError::Read { path: bootstrap.to_owned(), source })?;
    let chosen = context.map(str::to_owned).or_else(|| read.current_context.clone()).unwrap_or_default();
    let cluster = read
        .contexts
        .iter()
        .find(|named| named.name == chosen)
        .and_then(|named| named.context.as_ref())
        .map(|context| &context.cluster);
    let cluster =
        read.clusters.iter().find(|named| Some(&named.name) == cluster).and_then(|named| named.cluster.clone());
    // The flag that chose the bootstrap's context chooses this one too.
    let name = context.unwrap_or(CONTEXT).to_owned();
    let current =
        std::path::absolute(store.current_path()).unwrap_or_else(|_| store.current_path()).display().to_string();
    let user = AuthInfo { client_certificate: Some(current.clone()), client_key: Some(current), ..AuthInfo::default() };
    let context = Context {
        cluster: CLUSTER.into(),
        user: Some(USER.into()),
        namespace: Some("default".into()),
        extensions: None,
        ..Context::default()
    };
    let written = Kubeconfig {
        kind: Some("Config".into()),
        api_version: Some("v1".into()),
        clusters: vec![NamedCluster { name: CLUSTER.into(), cluster, ..NamedCluster::default() }],
        auth_infos: vec![NamedAuthInfo { name: USER.into(), auth_info: Some(user), ..NamedAuthInfo::default() }],
        contexts: vec![NamedContext { name: name.clone(), context: Some(context), ..NamedContext::default() }],
        current_context: Some(name),
        ..Kubeconfig::default()
    };
    let failed = |source| BootstrapError::Write { path: path.to_owned(), source };
    let text = serde_yaml_ng::to_string(&written).map_err(|error| failed(std::io::Error::other(error)))?;
    let temporary = path.with_extension("part");
    let write = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let _left_over = std::fs::remove_file(&temporary);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(failed)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const BOOTSTRAP: &str = "
apiVersion: v1
kind: Config
current-context: b
clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: 'QQ=='}}]
users: [{name: u, user: {token: abcdef.0123456789abcdef}}]
contexts: [{name: b, context: {cluster: c, user: u}}]
";

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { dir: tempfile::tempdir().expect("a directory") };
            std::fs::write(place.bootstrap(), BOOTSTRAP).expect("written");
            place
        }

        fn bootstrap(&self) -> PathBuf {
            self.dir.path().join("bootstrap")
        }

        fn kubeconfig(&self) -> PathBuf {
            self.dir.path().join("etc/kubeconfig")
        }

        fn store(&self) -> Store {
            Store::new(&self.dir.path().join("pki"), "kubelet-client")
        }

        fn written(&self) {
            write(&self.kubeconfig(), &self.bootstrap(), None, &self.store()).expect("written");
        }
    }

    #[test]
    fn the_written_kubeconfig_has_the_cluster_and_our_certificate_and_not_the_token() {
        let place = Place::new();
        place.written();
        let text = std::fs::read_to_string(place.kubeconfig()).expect("there");
        assert!(!text.contains("abcdef"), "{text}");
        let read = Kubeconfig::read_from(place.kubeconfig()).expect("a kubeconfig");
        let cluster = read.clusters[0].cluster.clone().expect("a cluster");
        assert_eq!(cluster.server.as_deref(), Some("https://10.0.0.1:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("QQ=="));
        assert!(uses(&place.kubeconfig(), &place.store()));
    }

    #[test]
    fn only_root_reads_the_kubeconfig_whatever_was_left_over() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = Place::new();
        std::fs::create_dir_all(place.dir.path().join("etc")).expect("made");
        std::fs::write(place.dir.path().join("etc/kubeconfig.part"), "half").expect("left over");
        for _ in 0..2 {
            place.written();
            let mode = std::fs::metadata(place.kubeconfig()).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn the_context_that_was_asked_for_is_found_in_what_was_written() {
        let place = Place::new();
        for context in [None, Some("b")] {
            write(&place.kubeconfig(), &place.bootstrap(), context, &place.store()).expect("written");
            let config = api::load(&place.kubeconfig(), context).await.expect("the context is there");
            assert_eq!(config.cluster_url, "https://10.0.0.1:6443");
        }
    }

    #[test]
    fn a_certificate_that_is_over_is_asked_for_again() {
        let (place, now) = (Place::new(), Timestamp::from_second(1_800_000_000).expect("a time"));
        assert!(!is_good(&place.kubeconfig(), &place.store(), now), "there is none");
        place.written();
        assert!(!is_good(&place.kubeconfig(), &place.store(), now), "its certificate is missing");
        let pem = super::super::pair::tests::pem(&["n"], now, 100);
        std::fs::create_dir_all(place.dir.path().join("pki")).expect("made");
        std::fs::write(place.store().current_path(), pem).expect("written");
        assert!(is_good(&place.kubeconfig(), &place.store(), now));
        assert!(!is_good(&place.kubeconfig(), &place.store(), now + SignedDuration::from_secs(100)), "over");
    }

    #[test]
    fn an_operators_own_kubeconfig_is_left_alone() {
        let place = Place::new();
        assert!(is_good(&place.bootstrap(), &place.store(), Timestamp::UNIX_EPOCH));
    }
}
