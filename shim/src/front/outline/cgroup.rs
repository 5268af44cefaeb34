//! The container's cgroup and its parent's limits.

use oci_spec::runtime::{LinuxResources, Spec};
use serde::Serialize;

use super::OutlineError;
use samara_shim_client::annotations;

/// A cgroup to make.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CgroupOutline {
    /// `linux.cgroupsPath`.
    pub(crate) path: String,
    pub(crate) resources: LinuxResources,
    /// For the pod's cgroup above it.
    pub(crate) parent_resources: Option<LinuxResources>,
}

/// `None`: the container stays in the zygote's.
pub(super) fn of(spec: &Spec) -> Result<Option<CgroupOutline>, OutlineError> {
    let linux = spec.linux().as_ref();
    let Some(path) = linux.and_then(|linux| linux.cgroups_path().as_ref()) else {
        return Ok(None);
    };
    let wrong = |reason| OutlineError::value("linux.cgroupsPath", path.to_string_lossy(), reason);
    let path = path.to_str().filter(|path| !path.is_empty()).ok_or_else(|| wrong("is not text"))?;
    samara_shim_client::cgroup::path::parse(path).map_err(|error| wrong(error.1))?;
    let annotations = spec.annotations().as_ref();
    let parent = annotations.and_then(|all| all.get(annotations::POD_RESOURCES));
    let parse = |json: &String| {
        let wrong = || OutlineError::value(annotations::POD_RESOURCES, json, "is not linux.resources");
        serde_json::from_str(json).map_err(|_not_json| wrong())
    };
    Ok(Some(CgroupOutline {
        path: path.into(),
        resources: linux.and_then(|linux| linux.resources().clone()).unwrap_or_default(),
        parent_resources: parent.map(parse).transpose()?,
    }))
}
