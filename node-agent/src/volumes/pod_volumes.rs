//! All volumes of one pod, and what a container sees of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use samara_core::oci::MountPoint;
use samara_core::volumes::{Sources, TokenRequest, is_projection, token_files};

use super::directory::{self, DirectoryError};
use super::layout::Layout;
use super::ownership::Ownership;
use super::sub_path::{self, Wish};
use super::{empty_dir, host_path, projected};

/// A volume that could not be made: `FailedMount`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct VolumeFailure {
    pub volume: String,
    pub message: String,
}

impl VolumeFailure {
    pub(super) fn new(volume: &Volume, message: String) -> Self {
        Self { volume: volume.name.clone(), message }
    }
}

/// A pod's volumes and files.
#[derive(Debug, Clone)]
pub struct PodVolumes {
    layout: Arc<Layout>,
    uid: Arc<str>,
}

/// Files that every container of the pod sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcFiles {
    pub hosts: String,
    pub hostname: String,
    pub resolv_conf: String,
}

/// Where each of [`EtcFiles`] is seen, and its file in the pod's directory.
const ETC: [(&str, &str); 3] =
    [("/etc/hosts", "etc-hosts"), ("/etc/hostname", "etc-hostname"), ("/etc/resolv.conf", "etc-resolv.conf")];

impl PodVolumes {
    /// Touches nothing.
    pub fn new(layout: Arc<Layout>, uid: Arc<str>) -> Self {
        Self { layout, uid }
    }

    /// Makes all volumes; those that are there are kept and brought up to date.
    pub fn set_up(&self, pod: &Pod, sources: &Sources<'_>) -> Result<(), VolumeFailure> {
        let dir = self.layout.pod(&self.uid);
        for volume in volumes(pod) {
            self.set_up_one(pod, volume, sources)?;
        }
        match dir.exists() {
            true => Ok(()),
            false => directory::make(&dir, 0o750)
                .map_err(|error| VolumeFailure { volume: "pod directory".to_owned(), message: error.text() }),
        }
    }

    /// Tokens that are in the pod's volumes already: an earlier agent wrote them.
    pub fn held_tokens(&self, pod: &Pod) -> BTreeMap<TokenRequest, String> {
        let files = token_files(pod).into_iter();
        let read = files.filter_map(|(volume, path, request)| {
            let text = fs::read_to_string(self.path(volume)?.join(path)).ok()?;
            Some((request, text))
        });
        read.collect()
    }

    /// Volumes that live and die with the pod, each with its directory.
    pub fn own(&self, pod: &Pod) -> Vec<(String, PathBuf)> {
        let own = volumes(pod).iter().filter(|volume| volume.host_path.is_none());
        own.filter_map(|volume| Some((volume.name.clone(), self.path(volume)?))).collect()
    }

    /// Writes `/etc/hosts` and its like.
    pub fn write_etc(&self, files: &EtcFiles) -> Result<(), DirectoryError> {
        let dir = self.layout.pod(&self.uid);
        for ((_, name), text) in ETC.iter().zip([&files.hosts, &files.hostname, &files.resolv_conf]) {
            let path = dir.join(name);
            fs::write(&path, text).map_err(DirectoryError::at("write", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
                .map_err(DirectoryError::at("set the mode of", &path))?;
        }
        Ok(())
    }

    /// Brings the files of projections up to date; the first failure is given back, the others are written all the same.
    pub fn update(&self, pod: &Pod, sources: &Sources<'_>) -> Result<(), VolumeFailure> {
        let projections = volumes(pod).iter().filter(|volume| is_projection(volume));
        let results: Vec<_> = projections.map(|volume| self.set_up_one(pod, volume, sources)).collect();
        results.into_iter().collect()
    }

    fn set_up_one(&self, pod: &Pod, volume: &Volume, sources: &Sources<'_>) -> Result<(), VolumeFailure> {
        let Some(path) = self.path(volume) else { return Ok(()) };
        let failure = |message: String| VolumeFailure::new(volume, message);
        if is_projection(volume) {
            projected::write(&path, pod, volume, sources).map(drop)
        } else if let Some(source) = &volume.empty_dir {
            empty_dir::set_up(&path, source, Ownership::of(pod)).map_err(|error| failure(error.text()))
        } else if let Some(source) = &volume.host_path {
            host_path::set_up(source).map(drop).map_err(|error| failure(error.to_string()))
        } else {
            Ok(())
        }
    }

    /// Where a volume is; `None` for a kind that this node does not have (admission has refused it by name).
    fn path(&self, volume: &Volume) -> Option<PathBuf> {
        if is_projection(volume) {
            return Some(self.layout.pod_projections(&self.uid).join(&volume.name));
        }
        if volume.empty_dir.is_some() {
            return Some(self.layout.volume(&self.uid, "kubernetes.io~empty-dir", &volume.name));
        }
        volume.host_path.as_ref().map(|source| PathBuf::from(&source.path))
    }

    /// What a container sees: its volumes, then the pod's files and its termination log where no volume is in the way.
    /// Parents come before what is in them. `expand` resolves `subPathExpr`.
    pub fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        expand: &dyn Fn(&str) -> String,
    ) -> Result<Vec<MountPoint>, String> {
        let wishes = container.volume_mounts.as_deref().unwrap_or_default();
        let mut mounts = Vec::with_capacity(wishes.len() + 4);
        for (index, wish) in wishes.iter().enumerate() {
            mounts.push(self.mount(pod, container, index, wish, expand)?);
        }
        let dir = self.layout.pod(&self.uid);
        let etc = ETC.iter().map(|(destination, name)| (PathBuf::from(destination), dir.join(name)));
        let log = self.termination_log(container, attempt);
        let log_destination = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        let log = (PathBuf::from(log_destination), log.map_err(|error| error.text())?);
        for (destination, source) in etc.chain([log]) {
            if source.exists() && !mounts.iter().any(|mount| mount.destination == destination) {
                mounts.push(MountPoint { source, destination, read_only: false });
            }
        }
        mounts.sort_by_key(|mount| mount.destination.components().count());
        Ok(mounts)
    }

    fn mount(
        &self,
        pod: &Pod,
        container: &Container,
        index: usize,
        wish: &VolumeMount,
        expand: &dyn Fn(&str) -> String,
    ) -> Result<MountPoint, String> {
        let missing = || format!("cannot find volume {:?} to mount into container {:?}", wish.name, container.name);
        let volume = volumes(pod).iter().find(|volume| volume.name == wish.name).ok_or_else(missing)?;
        let root = self.path(volume).ok_or_else(missing)?;
        let sub_path = match wish.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
            Some(expression) => Some(expand(expression)),
            None => wish.sub_path.clone(),
        };
        let source = match sub_path.filter(|path| !path.is_empty()) {
            Some(sub_path) => {
                let target = self.layout.sub_path(&self.uid, &wish.name, &container.name, index);
                let wish = Wish { volume: &wish.name, container: &container.name, sub_path: &sub_path };
                sub_path::bind(&root, &target, wish).map_err(|error| error.to_string())?;
                target
            }
            None => root,
        };
        Ok(MountPoint {
            source,
            destination: Path::new("/").join(&wish.mount_path),
            read_only: wish.read_only == Some(true) || is_projection(volume),
        })
    }

    /// The file that a container leaves its last words in, made if it is not there.
    pub fn termination_log(&self, container: &Container, attempt: u32) -> Result<PathBuf, DirectoryError> {
        let dir = self.layout.container(&self.uid, &container.name, attempt);
        let path = dir.join("termination-log");
        if !path.exists() {
            directory::make(&dir, 0o750)?;
            fs::write(&path, "").map_err(DirectoryError::at("make", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
                .map_err(DirectoryError::at("set the mode of", &path))?;
        }
        Ok(path)
    }

    /// Takes everything away that the pod had here, logs excepted.
    pub fn tear_down(&self) -> Result<(), DirectoryError> {
        directory::remove_tree(&self.layout.pod_projections(&self.uid))?;
        directory::remove_tree(&self.layout.pod(&self.uid))
    }
}

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, PodSpec};
    use samara_core::objects::Objects;

    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        volumes: PodVolumes,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let layout = Layout::new(&at("root"), &at("run"), &at("logs"), &at("links"));
            let volumes = PodVolumes::new(Arc::new(layout), "uid-1".into());
            Self { dir, volumes }
        }

        fn set_up(&self, pod: &Pod) -> Result<(), VolumeFailure> {
            let sources = Sources {
                objects: &Objects::default(),
                host_ips: &[],
                pod_ips: &[],
                allocatable: &BTreeMap::new(),
                tokens: &BTreeMap::new(),
            };
            self.volumes.set_up(pod, &sources)
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            self.volumes.tear_down().unwrap();
        }
    }

    fn pod(volumes: Vec<Volume>) -> Pod {
        Pod { spec: Some(PodSpec { volumes: Some(volumes), ..PodSpec::default() }), ..Pod::default() }
    }

    fn empty_dir(name: &str) -> Volume {
        Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
    }

    fn mount(name: &str, path: &str) -> VolumeMount {
        VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
    }

    fn container(mounts: Vec<VolumeMount>) -> Container {
        Container { name: "app".to_owned(), volume_mounts: Some(mounts), ..Container::default() }
    }

    #[test]
    fn a_container_sees_its_volumes_and_the_pods_files_parents_first() {
        let scene = Scene::new();
        let pod = pod(vec![empty_dir("a"), empty_dir("b")]);
        scene.set_up(&pod).unwrap();
        scene.volumes.write_etc(&EtcFiles { hosts: "h".into(), ..EtcFiles::default() }).unwrap();
        let read_only = VolumeMount { read_only: Some(true), ..mount("a", "/data") };
        let app = container(vec![mount("b", "/data/inner"), read_only, mount("a", "/etc/hosts")]);
        let mounts = scene.volumes.mounts(&pod, &app, 0, &str::to_owned).unwrap();
        let seen: Vec<_> = mounts.iter().map(|mount| (mount.destination.to_str().unwrap(), mount.read_only)).collect();
        let want = [
            ("/data", true),
            ("/data/inner", false),
            ("/etc/hosts", false),
            ("/etc/hostname", false),
            ("/etc/resolv.conf", false),
            ("/dev/termination-log", false),
        ];
        assert_eq!(seen, want);
        assert!(mounts[2].source.is_dir(), "the container's own mount over /etc/hosts wins");
        assert!(mounts.iter().all(|mount| mount.source.exists()));
    }

    #[test]
    fn a_sub_path_expression_is_expanded_and_its_directory_made() {
        let scene = Scene::new();
        let pod = pod(vec![empty_dir("logs")]);
        scene.set_up(&pod).unwrap();
        let wish = VolumeMount { sub_path_expr: Some("$(POD)/x".to_owned()), ..mount("logs", "/logs") };
        let mounts =
            scene.volumes.mounts(&pod, &container(vec![wish]), 0, &|text| text.replace("$(POD)", "web-1")).unwrap();
        fs::write(mounts[0].source.join("f"), "1").unwrap();
        let inside = scene.dir.path().join("root/pods/uid-1/volumes/kubernetes.io~empty-dir/logs/web-1/x/f");
        assert_eq!(fs::read_to_string(inside).unwrap(), "1");
    }

    #[test]
    fn a_mount_of_no_volume_is_named() {
        let scene = Scene::new();
        let error = scene.volumes.mounts(&pod(vec![]), &container(vec![mount("ghost", "/x")]), 0, &str::to_owned);
        assert_eq!(error.unwrap_err(), "cannot find volume \"ghost\" to mount into container \"app\"");
    }

    #[test]
    fn a_volume_that_cannot_be_made_is_named_as_the_kubelet_does() {
        let scene = Scene::new();
        let source = HostPathVolumeSource { path: "/proc/version".to_owned(), type_: Some("Directory".to_owned()) };
        let volume = Volume { name: "v".to_owned(), host_path: Some(source), ..Volume::default() };
        let error = scene.set_up(&pod(vec![volume])).unwrap_err();
        let want =
            "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: /proc/version is not a directory";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn tear_down_leaves_nothing_and_may_be_done_twice() {
        let scene = Scene::new();
        let pod = pod(vec![empty_dir("a")]);
        scene.set_up(&pod).unwrap();
        scene.volumes.tear_down().unwrap();
        scene.volumes.tear_down().unwrap();
        assert!(!scene.dir.path().join("root/pods/uid-1").exists());
    }
}
