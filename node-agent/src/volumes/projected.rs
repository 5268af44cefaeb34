//! Volumes whose files the agent writes: on a tmpfs, because Secrets and tokens must not reach a disk.

use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Volume};
use samara_core::volumes::{Sources, project};

use super::atomic;
use super::directory::{self, DirectoryError};
use super::empty_dir::{is_tmpfs, mount_tmpfs};
use super::ownership::Ownership;
use super::pod_volumes::VolumeFailure;

/// Makes sure that a directory of all pods is on a tmpfs: one mount for all of them.
/// One that already holds something stays as it is: pods that run use it.
pub fn prepare_tmpfs(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    directory::make(path, mode)?;
    let empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    match is_tmpfs(path) || !empty() {
        true => Ok(()),
        false => mount_tmpfs(path, None, mode, None),
    }
}

/// Writes one volume; `false` if it held these files already.
pub(super) fn write(dir: &Path, pod: &Pod, volume: &Volume, sources: &Sources<'_>) -> Result<bool, VolumeFailure> {
    let failure = |message: String| VolumeFailure::new(volume, message);
    let files = project(pod, volume, sources).map_err(|error| failure(error.to_string()))?;
    let ownership = Ownership::of(pod);
    if !dir.exists() {
        directory::make(dir, 0o755).map_err(|error| failure(error.text()))?;
    }
    atomic::write(dir, &files, ownership).map_err(|error| failure(error.text()))
}
