//! Where the root file system comes from.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::Serialize;

use super::{OutlineError, mounts};
use samara_shim_client::client::RootMount;

/// The root, not mounted anywhere yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum RootOutline {
    /// Layers under a writable directory.
    Overlay(Overlay),
    /// A directory as it is. `make`: it may be missing (an image without root, whose root is empty).
    Directory { path: PathBuf, make: bool },
    /// A file system of its own, or a bind mount (containerd's single-layer views).
    Mount(mounts::MountOutline),
}

/// `mount -t overlay`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Overlay {
    /// Topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// Both or none; none is a read-only root.
    pub(crate) upper_and_work: Option<(PathBuf, PathBuf)>,
    /// Further options, as `(key, value)`; an empty value is a flag.
    pub(crate) options: Vec<(String, String)>,
}

pub(super) fn of(spec: &Spec, bundle: &Path, rootfs: &[RootMount]) -> Result<RootOutline, OutlineError> {
    match rootfs {
        [] => directory(spec, bundle),
        [mount] if mount.typ == "overlay" => overlay(mount).map(RootOutline::Overlay),
        [mount] => {
            let decided = mounts::decide(Path::new("/"), &mount.typ, Some(Path::new(&mount.source)), &mount.options);
            match decided? {
                Some(outline) => Ok(RootOutline::Mount(outline)),
                None => Err(OutlineError::Rootfs(format!("{:?} cannot be a root", mount.typ))),
            }
        }
        several => Err(OutlineError::Rootfs(format!("{} mounts, at most one is supported", several.len()))),
    }
}

fn directory(spec: &Spec, bundle: &Path) -> Result<RootOutline, OutlineError> {
    let root = spec.root().as_ref().ok_or(OutlineError::Missing("root"))?;
    let wrong = |reason| OutlineError::value("root.path", root.path().to_string_lossy(), reason);
    if root.path().as_os_str().is_empty() {
        return Err(wrong("is empty"));
    }
    let upwards = root.path().components().any(|component| component == Component::ParentDir);
    let path = bundle.join(root.path());
    Ok(RootOutline::Directory {
        // Only inside the bundle is it ours to make.
        make: path.starts_with(bundle) && !upwards,
        path,
    })
}

fn overlay(mount: &RootMount) -> Result<Overlay, OutlineError> {
    let mut overlay = Overlay::default();
    let (mut upper, mut work) = (None, None);
    for option in &mount.options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "lowerdir" => overlay.lower = layers(value),
            "lowerdir+" => overlay.lower.push(value.into()),
            "upperdir" => upper = Some(PathBuf::from(value)),
            "workdir" => work = Some(PathBuf::from(value)),
            "ro" | "rw" | "" => {}
            _ => overlay.options.push((key.into(), value.into())),
        }
    }
    if overlay.lower.is_empty() || overlay.lower.iter().any(|layer| !layer.is_absolute()) {
        return Err(OutlineError::Rootfs("overlay without lowerdir, or with one that is not absolute".into()));
    }
    overlay.upper_and_work = match (upper, work) {
        (Some(upper), Some(work)) => Some((upper, work)),
        (None, None) => None,
        _ => {
            return Err(OutlineError::Rootfs("overlay needs upperdir and workdir together".into()));
        }
    };
    Ok(overlay)
}

/// Colons part layers; a backslash takes the meaning of the next character away.
fn layers(value: &str) -> Vec<PathBuf> {
    let mut layers = vec![String::new()];
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match (char, layers.last_mut()) {
            (':', _) => layers.push(String::new()),
            ('\\', Some(last)) => last.extend(chars.next()),
            (char, Some(last)) => last.push(char),
            (_, None) => {}
        }
    }
    layers.into_iter().filter(|layer| !layer.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(options: &[&str]) -> RootMount {
        RootMount {
            typ: "overlay".into(),
            source: "overlay".into(),
            options: options.iter().map(|&option| option.into()).collect(),
        }
    }

    #[test]
    fn escaped_colons_belong_to_the_path() {
        assert_eq!(layers(r"/a\:b:/c\\d:/e:"), [r"/a:b", r"/c\d", "/e"].map(PathBuf::from));
    }

    #[test]
    fn an_overlay_is_read_from_its_options() {
        let options = ["lowerdir=/top:/bottom", "upperdir=/u", "workdir=/w", "index=off", "volatile"];
        let expected = Overlay {
            lower: vec!["/top".into(), "/bottom".into()],
            upper_and_work: Some(("/u".into(), "/w".into())),
            options: vec![("index".into(), "off".into()), ("volatile".into(), String::new())],
        };
        assert_eq!(overlay(&mount(&options)), Ok(expected));
    }

    #[test]
    fn half_an_overlay_is_refused() {
        for options in [
            &["upperdir=/u", "workdir=/w"][..],
            &["lowerdir=/l", "upperdir=/u"],
            &["lowerdir=relative"],
            &["lowerdir="],
        ] {
            assert!(overlay(&mount(options)).is_err(), "{options:?}");
        }
    }

    #[test]
    fn only_a_directory_of_the_bundle_is_made() {
        let spec = |path: &str| -> Spec {
            serde_json::from_value(serde_json::json!({"ociVersion": "1.2.0", "root": {"path": path}})).expect("spec")
        };
        let made = |path: &str| match directory(&spec(path), Path::new("/run/b")) {
            Ok(RootOutline::Directory { path, make }) => (path, make),
            other => panic!("{other:?}"),
        };
        assert_eq!(made("rootfs"), ("/run/b/rootfs".into(), true));
        assert_eq!(made("/run/b/rootfs"), ("/run/b/rootfs".into(), true));
        assert_eq!(made("/srv/root"), ("/srv/root".into(), false));
        assert_eq!(made("../x"), ("/run/b/../x".into(), false));
        assert!(directory(&spec(""), Path::new("/run/b")).is_err());
    }
}
