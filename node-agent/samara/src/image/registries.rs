//! How registries are reached. Every verb that asks one takes the same two flags, which are the node's.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use samara_images::RegistryConfig;

/// What is set about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Registries {
    /// Settings per registry, as containerd keeps them: mirrors, authorities, client certificates in DIR/HOST/hosts.toml
    #[arg(long, env = "SAMARA_REGISTRY_CONFIG_DIR", value_name = "DIR", help_heading = "Registries")]
    registry_config_dir: Option<PathBuf>,
    /// Registries spoken to without TLS, as HOST or HOST:PORT; this machine's own always are
    #[arg(
        long,
        env = "SAMARA_PLAIN_REGISTRY",
        value_name = "HOST",
        value_delimiter = ',',
        help_heading = "Registries"
    )]
    plain_registry: Vec<String>,
}

impl Registries {
    /// In the terms of those who ask them. A directory that is not there is a mistake: without it another registry would be asked.
    pub(crate) fn config(&self) -> Result<RegistryConfig> {
        let dir = self.registry_config_dir.as_ref();
        let dir = dir.map(|dir| std::path::absolute(dir).with_context(|| format!("find {}", dir.display())));
        let hosts_dir = dir.transpose()?;
        if let Some(dir) = hosts_dir.as_ref().filter(|dir| !dir.is_dir()) {
            bail!("--registry-config-dir {}: there is no such directory", dir.display());
        }
        Ok(RegistryConfig { plain_http: self.plain_registry.clone(), hosts_dir, ..RegistryConfig::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_settings_has_to_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let of = |dir: PathBuf| Registries { registry_config_dir: Some(dir), plain_registry: vec!["r.lan".into()] };
        let config = of(dir.path().to_owned()).config().unwrap();
        assert_eq!((config.hosts_dir.as_deref(), config.plain_http), (Some(dir.path()), vec!["r.lan".to_owned()]));
        let missing = of(dir.path().join("none")).config().unwrap_err().to_string();
        assert!(missing.contains("none: there is no such directory"), "{missing}");
        assert_eq!(Registries::default().config().unwrap(), RegistryConfig::default());
    }
}
