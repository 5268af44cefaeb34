//! `mounts` of the configuration: which are made, from what, with which attributes.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use serde::Serialize;

use super::OutlineError;

/// A mount inside the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MountOutline {
    pub(crate) destination: PathBuf,
    pub(crate) source: MountSource,
    pub(crate) attributes: Attributes,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum MountSource {
    Bind {
        path: PathBuf,
        recursive: bool,
        propagation: Propagation,
    },
    /// Options as `(key, value)`.
    Tmpfs {
        options: Vec<(String, String)>,
    },
    /// A file system on a device.
    Device {
        typ: String,
        source: PathBuf,
        options: Vec<(String, String)>,
    },
}

/// Whether mounts that appear later below the source appear in the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Propagation {
    #[default]
    Private,
    /// `HostToContainer`.
    Slave,
    /// `Bidirectional`.
    Shared,
}

/// Flags of the mount itself. `nodev` is always set: a guest has no devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Attributes {
    pub(crate) read_only: bool,
    pub(crate) nosuid: bool,
    pub(crate) noexec: bool,
    pub(crate) noatime: bool,
    /// Applied to the mounts below too (`rro` and its like).
    pub(crate) recursive: bool,
}

pub(super) fn of(spec: &Spec) -> Result<Vec<MountOutline>, OutlineError> {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref()).unwrap_or_default();
    let decided = spec.mounts().iter().flatten().map(|mount: &Mount| {
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(OutlineError::Unsupported("mounts[].uidMappings"));
        }
        let options = mount.options().as_deref().unwrap_or_default();
        let typ = mount.typ().as_deref().unwrap_or_default();
        let outline = decide(mount.destination(), typ, mount.source().as_deref(), options)?;
        Ok(outline.map(|outline| outline.labelled(label)))
    });
    decided.filter_map(Result::transpose).collect()
}

impl MountOutline {
    /// `linux.mountLabel` is the SELinux context of what is made for the container; what is bound keeps its own, and its
    /// root's was set by who made it.
    fn labelled(mut self, label: &str) -> Self {
        if let (MountSource::Tmpfs { options }, false) = (&mut self.source, label.is_empty()) {
            options.push(("context".into(), label.into()));
        }
        self
    }
}

/// `None`: a kernel interface that a guest neither has nor could use.
pub(super) fn decide(
    destination: &Path,
    typ: &str,
    source: Option<&Path>,
    options: &[String],
) -> Result<Option<MountOutline>, OutlineError> {
    let field = || format!("mounts[{}]", destination.display());
    let upwards = |component| matches!(component, Component::ParentDir);
    if !destination.is_absolute() || destination.components().any(upwards) {
        let text = destination.to_string_lossy();
        return Err(OutlineError::value("mounts[].destination", text, "is not an absolute path"));
    }
    let read = Options::read(options);
    let bind = typ == "bind" || read.bind.is_some();
    let source = match (bind, typ) {
        (true, _) => MountSource::Bind {
            path: source
                .filter(|path| path.is_absolute())
                .ok_or_else(|| OutlineError::value(field(), "source", "is not an absolute path"))?
                .into(),
            recursive: read.bind != Some(Depth::One),
            propagation: read.propagation,
        },
        // `/dev` would hold device nodes: a guest has none. Volumes of type tmpfs are real.
        (false, "tmpfs") if destination == Path::new("/dev") => return Ok(None),
        (false, "tmpfs") => MountSource::Tmpfs { options: read.others },
        (false, "proc" | "sysfs" | "cgroup" | "cgroup2" | "mqueue" | "devpts" | "devtmpfs") => {
            return Ok(None);
        }
        (false, "") => return Err(OutlineError::value(field(), "type", "is missing")),
        (false, typ) => MountSource::Device {
            typ: typ.into(),
            source: source.unwrap_or(Path::new("none")).into(),
            options: read.others,
        },
    };
    Ok(Some(MountOutline { destination: destination.into(), source, attributes: read.attributes }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    One,
    All,
}

#[derive(Debug, Default)]
struct Options {
    bind: Option<Depth>,
    propagation: Propagation,
    attributes: Attributes,
    others: Vec<(String, String)>,
}

impl Options {
    /// The names of the OCI runtime spec, `config.md`, "Linux mount options".
    fn read(options: &[String]) -> Self {
        let mut read = Self::default();
        let attributes = &mut read.attributes;
        for option in options {
            match option.as_str() {
                "bind" => read.bind = Some(Depth::One),
                "rbind" => read.bind = Some(Depth::All),
                "ro" => attributes.read_only = true,
                "rro" => (attributes.read_only, attributes.recursive) = (true, true),
                "rw" | "rrw" => attributes.read_only = false,
                "nosuid" => attributes.nosuid = true,
                "rnosuid" => (attributes.nosuid, attributes.recursive) = (true, true),
                "suid" | "rsuid" => attributes.nosuid = false,
                "noexec" => attributes.noexec = true,
                "rnoexec" => (attributes.noexec, attributes.recursive) = (true, true),
                "exec" | "rexec" => attributes.noexec = false,
                "noatime" | "rnoatime" => attributes.noatime = true,
                "shared" | "rshared" => read.propagation = Propagation::Shared,
                "slave" | "rslave" => read.propagation = Propagation::Slave,
                "private" | "rprivate" | "unbindable" | "runbindable" => {
                    read.propagation = Propagation::Private;
                }
                // Defaults, or of no meaning for a guest.
                "defaults" | "nodev" | "rnodev" | "dev" | "rdev" | "relatime" | "rrelatime" | "norelatime"
                | "strictatime" | "rstrictatime" | "nostrictatime" | "atime" | "diratime" | "nodiratime" | "sync"
                | "async" | "dirsync" | "mand" | "nomand" | "silent" | "loud" | "symfollow" | "nosymfollow"
                | "tmpcopyup" | "" => {}
                other => {
                    let (key, value) = other.split_once('=').unwrap_or((other, ""));
                    read.others.push((key.into(), value.into()));
                }
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(destination: &str, typ: &str, source: &str, options: &[&str]) -> Option<MountOutline> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        decide(Path::new(destination), typ, Some(Path::new(source)), &options).expect("decided")
    }

    #[test]
    fn volumes_become_bind_mounts_with_their_attributes() {
        let expected = MountOutline {
            destination: "/data".into(),
            source: MountSource::Bind { path: "/var/vol".into(), recursive: true, propagation: Propagation::Slave },
            attributes: Attributes { read_only: true, nosuid: true, ..Attributes::default() },
        };
        let options = ["rbind", "ro", "nosuid", "nodev", "rslave"];
        assert_eq!(one("/data", "bind", "/var/vol", &options), Some(expected));
        assert_eq!(one("/etc/hosts", "", "/h", &["bind"]).map(|mount| mount.source), {
            Some(MountSource::Bind { path: "/h".into(), recursive: false, propagation: Propagation::Private })
        });
    }

    #[test]
    fn interfaces_of_the_kernel_are_left_out_and_memory_volumes_are_not() {
        for (destination, typ) in [
            ("/proc", "proc"),
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/dev/mqueue", "mqueue"),
            ("/sys", "sysfs"),
            ("/sys/fs/cgroup", "cgroup"),
        ] {
            assert_eq!(one(destination, typ, typ, &[]), None, "{destination}");
        }
        let shm = one("/dev/shm", "tmpfs", "shm", &["nosuid", "mode=1777", "size=65536k"]);
        let options = vec![("mode".to_owned(), "1777".to_owned()), ("size".to_owned(), "65536k".to_owned())];
        assert_eq!(shm.map(|mount| mount.source), Some(MountSource::Tmpfs { options }));
    }

    #[test]
    fn memory_volumes_have_the_mount_label_and_bound_ones_their_own() {
        let spec = serde_json::json!({
            "ociVersion": "1.2.0",
            "linux": {"mountLabel": "system_u:object_r:container_file_t:s0:c1,c2"},
            "mounts": [
                {"destination": "/m", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/b", "type": "bind", "source": "/x"},
            ],
        });
        let mounts = of(&serde_json::from_value(spec).expect("spec")).expect("decided");
        let options = vec![("context".to_owned(), "system_u:object_r:container_file_t:s0:c1,c2".to_owned())];
        assert_eq!(mounts[0].source, MountSource::Tmpfs { options });
        assert!(matches!(mounts[1].source, MountSource::Bind { .. }));
    }

    #[test]
    fn what_cannot_be_a_mount_is_refused_by_name() {
        let decide = |destination: &str, typ: &str, source: Option<&str>| {
            decide(Path::new(destination), typ, source.map(Path::new), &[]).expect_err("refused")
        };
        assert_eq!(
            decide("relative", "bind", Some("/x")).to_string(),
            r#"config.json: mounts[].destination: "relative" is not an absolute path"#
        );
        assert_eq!(
            decide("/a/../../b", "bind", Some("/x")).to_string(),
            r#"config.json: mounts[].destination: "/a/../../b" is not an absolute path"#
        );
        assert_eq!(
            decide("/data", "bind", Some("x")).to_string(),
            r#"config.json: mounts[/data]: "source" is not an absolute path"#
        );
        assert_eq!(decide("/data", "", None).to_string(), r#"config.json: mounts[/data]: "type" is missing"#);
    }
}
