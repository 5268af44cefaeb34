//! From `linux.cgroupsPath` to a directory below the hierarchy's root.

use std::path::{Component, Path, PathBuf};

/// Where a cgroup stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupPath {
    /// From the root of each hierarchy.
    Absolute(PathBuf),
    /// Below our own cgroup of each hierarchy.
    Relative(PathBuf),
}

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cgroupsPath {0:?}: {1}")]
pub struct PathError(pub String, pub &'static str);

/// Reads both of runc's forms: a path, and systemd's `slice:prefix:name`.
pub fn parse(text: &str) -> Result<CgroupPath, PathError> {
    let wrong = |reason| PathError(text.into(), reason);
    if text.contains('\0') {
        return Err(wrong("holds a NUL"));
    }
    if let Some((slice, prefix, name)) = systemd_parts(text) {
        return systemd(slice, prefix, name).map(CgroupPath::Absolute).ok_or(wrong("is not slice:prefix:name"));
    }
    let mut clean = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(wrong("leads upwards")),
        }
    }
    if clean.as_os_str().is_empty() {
        return Err(wrong("names the root"));
    }
    Ok(if text.starts_with('/') { CgroupPath::Absolute(clean) } else { CgroupPath::Relative(clean) })
}

fn systemd_parts(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.split(':');
    let three = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && !text.contains('/')).then_some(three)
}

/// `a-b.slice` stands in `a.slice`; the unit is `prefix-name.scope`, or `name` if that is a slice itself.
fn systemd(slice: &str, prefix: &str, name: &str) -> Option<PathBuf> {
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").filter(|stem| !stem.is_empty())?;
    let mut path = PathBuf::new();
    if stem != "-" {
        let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
        for end in ends {
            let part = &stem[..end];
            if part.is_empty() || part.ends_with('-') {
                return None;
            }
            path.push(format!("{part}.slice"));
        }
    }
    match (prefix, name) {
        (_, "") => return None,
        (_, name) if name.ends_with(".slice") => path.push(name),
        ("", name) => path.push(format!("{name}.scope")),
        (prefix, name) => path.push(format!("{prefix}-{name}.scope")),
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_systemd_units_are_read() {
        let absolute = |path: &str| Ok(CgroupPath::Absolute(path.into()));
        assert_eq!(parse("/kubepods/burstable/pod1/abc"), absolute("kubepods/burstable/pod1/abc"));
        assert_eq!(parse("//a/./b/"), absolute("a/b"));
        assert_eq!(parse("samara/x"), Ok(CgroupPath::Relative("samara/x".into())));
        assert_eq!(
            parse("kubepods-burstable-pod1.slice:cri-containerd:abc"),
            absolute("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope")
        );
        assert_eq!(parse(":docker:abc"), absolute("system.slice/docker-abc.scope"));
        assert_eq!(parse("-.slice::abc"), absolute("abc.scope"));
        assert_eq!(parse("a.slice::b.slice"), absolute("a.slice/b.slice"));
    }

    #[test]
    fn ways_out_and_nothing_are_refused() {
        for text in
            ["", "/", "..", "/a/../b", "a/../../b", "a\0b", "x:y:z", "a--b.slice:p:n", "a.slice:p:", ".slice:p:n"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
