//! A kubeconfig file, read so that what is wrong with it can be found from the message alone.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};

/// What is wrong with a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file cannot be read, or is not a kubeconfig.
    #[error("reading kubeconfig {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// It holds nothing.
    #[error("kubeconfig {} is empty: it needs a cluster, a user and a context", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The context, or the cluster, user or file that it names, is missing or wrong.
    #[error("kubeconfig {}, context {context:?}", path.display())]
    Context {
        /// The file.
        path: PathBuf,
        /// The context chosen, or the file's `current-context`.
        context: String,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// It names a proxy.
    #[error("kubeconfig {}, context {context:?}: proxy-url is not supported; reach the API server directly", path.display())]
    Proxy {
        /// The file.
        path: PathBuf,
        /// The context.
        context: String,
    },
}

/// Reads `path` and chooses `context` in it (`None`: its `current-context`).
pub async fn load(path: &Path, context: Option<&str>) -> Result<kube::Config, KubeconfigError> {
    let kubeconfig =
        Kubeconfig::read_from(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
    if kubeconfig.clusters.is_empty() && kubeconfig.contexts.is_empty() {
        return Err(KubeconfigError::Empty { path: path.to_owned() });
    }
    let chosen = context.map(str::to_owned).or_else(|| kubeconfig.current_context.clone()).unwrap_or_default();
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|source| KubeconfigError::Context { path: path.to_owned(), context: chosen.clone(), source })?;
    match config.proxy_url {
        Some(_) => Err(KubeconfigError::Proxy { path: path.to_owned(), context: chosen }),
        None => Ok(config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message and all its causes, as the log shows them.
    fn story(error: &dyn std::error::Error) -> String {
        match error.source() {
            Some(cause) => format!("{error}: {}", story(cause)),
            None => error.to_string(),
        }
    }

    async fn refused(content: &str, context: Option<&str>) -> (PathBuf, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.kubeconfig");
        std::fs::write(&path, content).expect("written");
        let error = load(&path, context).await.expect_err("this kubeconfig must be refused");
        (path, story(&error))
    }

    const PLAIN: &str = "
apiVersion: v1
kind: Config
current-context: main
clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}]
users: [{name: u, user: {token: abc}}]
contexts: [{name: main, context: {cluster: c, user: u}}, {name: lost, context: {cluster: gone, user: u}}]
";

    #[tokio::test]
    async fn a_plain_kubeconfig_with_a_token_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, PLAIN).expect("written");
        let config = load(&path, None).await.expect("it is right");
        assert_eq!(config.cluster_url, "https://10.0.0.1:6443");
        assert!(config.auth_info.token.is_some());
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let path = Path::new("/nonexistent/kubeconfig");
        let error = load(path, None).await.expect_err("there is none");
        assert!(story(&error).starts_with("reading kubeconfig /nonexistent/kubeconfig: "), "{}", story(&error));
    }

    #[tokio::test]
    async fn each_fault_names_the_file_and_what_is_wrong() {
        let cases: [(&str, &str, Option<&str>, &str); 6] = [
            ("empty", "", None, "is empty"),
            ("no kubeconfig at all", "- 1\n- 2\n", None, "reading kubeconfig"),
            ("not yaml", "{\0", None, "reading kubeconfig"),
            ("a context that is not there", PLAIN, Some("nowhere"), "context \"nowhere\""),
            ("a context that names a missing cluster", PLAIN, Some("lost"), "context \"lost\""),
            ("a proxy", &PLAIN.replace("6443'", "6443', proxy-url: 'http://p:1'"), None, "proxy-url is not supported"),
        ];
        for (name, content, context, expected) in cases {
            let (path, told) = refused(content, context).await;
            assert!(told.contains(&path.display().to_string()), "{name}: {told}");
            assert!(told.contains(expected), "{name}: {told}");
        }
    }

    #[tokio::test]
    async fn a_certificate_file_that_is_missing_is_named() {
        let content = PLAIN.replace("token: abc", "client-certificate: missing.crt, client-key: missing.key");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, content).expect("written");
        let config = load(&path, None).await.expect("the file itself is right");
        let error = crate::api::connect(&config).expect_err("the certificate is missing");
        assert!(story(&error).contains("missing."), "{}", story(&error));
    }
}
