//! Why a container could not be set up.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use super::cgroups::CgroupError;
use super::files::FileError;
use super::filesystem::FilesystemError;
use super::hygiene::HygieneError;
use super::identity::IdentityError;
use super::landlock::LandlockError;
use super::namespaces::NamespaceError;
use super::seccomp::FilterError;
use crate::plan::PlanError;

/// One step that failed.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    #[error("separate from the zygote")]
    Hygiene(#[from] HygieneError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
    #[error(transparent)]
    Load(#[from] samara_runtime::LoadError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Landlock(#[from] LandlockError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("make the terminal the process's own")]
    Terminal(#[source] io::Error),
    #[error("start the control thread")]
    Control(#[source] io::Error),
}

impl SetUpError {
    /// The error and all its causes on one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }
}
