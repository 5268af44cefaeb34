//! Volumes whose files the agent writes: on a tmpfs, because Secrets and tokens must not reach a disk.

use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Volume};
use samara_core::volumes::{Sources, project};

use super::atomic;
use super::directory::{self, DirectoryError};
use super::empty_dir::{is_tmpfs, mount_tmpfs};
use super::ownership::Ownership;
use super::pod_volumes::VolumeFailure;

/// Makes sure that the directory of all projections is on a tmpfs: one mount for all pods.
pub fn prepare_tmpfs(projections: &Path) -> Result<(), DirectoryError> {
    directory::make(projections, 0o711)?;
    match is_tmpfs(projections) {
        true => Ok(()),
        false => mount_tmpfs(projections, None, 0o711),
    }
}

/// Writes one volume; `false` if it held these files already.
pub(super) fn write(dir: &Path, pod: &Pod, volume: &Volume, sources: &Sources<'_>) -> Result<bool, VolumeFailure> {
    let failure = |message: String| VolumeFailure::new(volume, message);
    let files = project(pod, volume, sources).map_err(|error| failure(error.to_string()))?;
    let ownership = Ownership::read_only(pod);
    if !dir.exists() {
        directory::make(dir, 0o755).map_err(|error| failure(error.text()))?;
    }
    atomic::write(dir, &files, ownership).map_err(|error| failure(error.text()))
}
