//! Where things are on this machine. Every verb that touches any of them takes the same two flags.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use samara_shim_client::front::{CODE_DIR, FrontConfig};

/// The two directories.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Place {
    /// Images, compiled code, containers and volumes
    #[arg(
        long,
        default_value = "/var/lib/samara",
        env = "SAMARA_ROOT_DIR",
        value_name = "DIR",
        help_heading = "Places"
    )]
    root_dir: PathBuf,
    /// Sockets
    #[arg(long, default_value = "/run/samara", env = "SAMARA_RUN_DIR", value_name = "DIR", help_heading = "Places")]
    run_dir: PathBuf,
}

/// As much of a container's id as names its front: a socket's path must be short.
const FRONT_ID: usize = 12;

impl Place {
    /// Two directories as they are.
    pub(crate) fn new(root_dir: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        Self { root_dir: root_dir.into(), run_dir: run_dir.into() }
    }

    /// Good wherever a process of ours has its working directory.
    pub(crate) fn absolute(&self) -> Result<Self> {
        let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| format!("find {}", path.display()));
        Ok(Self { root_dir: absolute(&self.root_dir)?, run_dir: absolute(&self.run_dir)? })
    }

    pub(crate) fn root_dir(&self) -> &std::path::Path {
        &self.root_dir
    }

    pub(crate) fn run_dir(&self) -> &std::path::Path {
        &self.run_dir
    }

    /// The image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.root_dir.join("images")
    }

    /// The code cache.
    pub(crate) fn code(&self) -> PathBuf {
        self.root_dir.join("code")
    }

    /// One directory for each container, and their names.
    pub(crate) fn containers(&self) -> PathBuf {
        self.root_dir.join("containers")
    }

    /// One directory for each named volume.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.root_dir.join("volumes")
    }

    /// For fifos of those who are attached.
    pub(crate) fn streams(&self) -> PathBuf {
        self.run_dir.join("cli-io")
    }

    /// How the front of a container is started, or found.
    pub(crate) fn front(&self, id: &str) -> Result<FrontConfig> {
        let exe = std::env::current_exe().context("find this program's own file")?;
        let dir = self.run_dir.join("cli").join(&id[..FRONT_ID.min(id.len())]);
        let code = self.code().display().to_string();
        Ok(FrontConfig { exe, dir, env: [(CODE_DIR.to_owned(), code)].into() })
    }
}

/// For verbs that make or end processes.
pub(crate) fn must_be_root(verb: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a sandbox needs namespaces and cgroups, which only root may make: run `sudo samara {verb} ...`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fronts_directory_is_short_and_its_code_is_the_roots() {
        let place = Place::new("/r", "/x");
        let front = place.front(&"ab".repeat(32)).unwrap();
        assert_eq!(front.dir, PathBuf::from("/x/cli/abababababab"));
        assert_eq!(front.env[CODE_DIR], "/r/code");
        assert_eq!(place.front("short").unwrap().dir, PathBuf::from("/x/cli/short"));
    }
}
