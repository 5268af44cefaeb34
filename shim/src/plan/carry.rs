//! A plan's way from front to container: JSON in a sealed memfd.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::{ContainerPlan, VERSION};

/// Largest plan that is read: room for the largest environment Kubernetes lets through (ConfigMaps and Secrets are
/// 1 MiB each) many times over.
pub const MAX_SIZE: u64 = 16 << 20;

/// The plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("read the plan")]
    Read(#[source] io::Error),
    #[error("the plan is larger than {MAX_SIZE} bytes")]
    TooLarge,
    #[error("the plan is not of this version's form")]
    Form(#[source] serde_json::Error),
    #[error("the plan is of version {0}, this is {VERSION}")]
    Version(u32),
}

/// Looked at before the rest, so that a plan of another version is named as such.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

impl ContainerPlan {
    /// The plan in a memfd that nobody can change any more.
    pub fn seal(&self) -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("samara-plan", flags)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    }

    /// Reads a plan from the start of `file`.
    pub fn read(file: impl AsFd) -> Result<Self, PlanError> {
        let mut file = File::from(file.as_fd().try_clone_to_owned().map_err(PlanError::Read)?);
        io::Seek::rewind(&mut file).map_err(PlanError::Read)?;
        let mut bytes = Vec::new();
        file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(PlanError::Read)?;
        if bytes.len() as u64 > MAX_SIZE {
            return Err(PlanError::TooLarge);
        }
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(PlanError::Form)?;
        if version != VERSION {
            return Err(PlanError::Version(version));
        }
        serde_json::from_slice(&bytes).map_err(PlanError::Form)
    }
}
