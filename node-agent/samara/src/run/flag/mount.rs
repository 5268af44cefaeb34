//! `--volume` and `--mount`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::container::check_name;

/// What is mounted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: Source,
    /// Absolute.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// Where a mount's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// On this machine.
    Host(PathBuf),
    /// The same, a directory, which is made if it is missing.
    Made(PathBuf),
    /// A named volume, made at its first use.
    Volume(String),
    /// In memory.
    Memory { size: Option<i64>, mode: Option<u32> },
}

impl Mount {
    /// Whether nothing is made for it.
    pub(crate) fn must_be_there(&self) -> bool {
        matches!(self.source, Source::Host(_))
    }

    /// Makes a named volume, and looks whether there is what is to be shown.
    pub(crate) fn make(&self, volumes: &Path) -> Result<()> {
        match &self.source {
            Source::Volume(name) => {
                let dir = volumes.join(name);
                fs::create_dir_all(&dir).with_context(|| format!("make the volume {}", dir.display()))
            }
            Source::Host(path) => {
                let found = fs::metadata(path).map(drop);
                found.with_context(|| format!("show {} to the guest; `mkdir -p {0}` makes it", path.display()))
            }
            Source::Made(path) => fs::create_dir_all(path).with_context(|| format!("make {}", path.display())),
            Source::Memory { .. } => Ok(()),
        }
    }
}

/// `HOST:GUEST[:ro]` or `NAME:GUEST[:ro]`: what has a slash, or is `.` or `..`, is of the host.
pub(crate) fn volume(text: &str) -> Result<Mount> {
    let mut parts = text.split(':');
    let (source, target, mode, more) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(source), Some(target), None) = (source.filter(|source| !source.is_empty()), target, more) else {
        bail!("--volume {text}: write HOST:GUEST or NAME:GUEST, with :ro behind it for read-only");
    };
    let read_only = match mode {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => bail!("--volume {text}: {other} is neither ro nor rw"),
    };
    let source = source_of(source).with_context(|| format!("--volume {text}"))?;
    Ok(Mount { source, target: absolute(target).with_context(|| format!("--volume {text}"))?, read_only })
}

/// `GUEST[:OPTION,...]`: docker's `--tmpfs`.
pub(crate) fn tmpfs(text: &str) -> Result<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut read_only) = (None, None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => {
                size = Some(super::memory::parse(value).with_context(|| format!("--tmpfs {text}"))?);
            }
            Some(("mode", value)) => mode = Some(octal(value).with_context(|| format!("--tmpfs {text}"))?),
            None if option == "ro" => read_only = true,
            None if option == "rw" => read_only = false,
            // It always is.
            None if ["nosuid", "nodev", "noexec"].contains(&option) => {}
            _ => bail!("--tmpfs {text}: {option:?} is not an option; there are size, mode, ro and rw"),
        }
    }
    let target = absolute(target).with_context(|| format!("--tmpfs {text}"))?;
    Ok(Mount { source: Source::Memory { size, mode }, target, read_only })
}

/// `type=bind|volume|tmpfs,source=...,target=...` and options, by docker's names. What is always so may be said; what is
/// not to be had here is refused by name.
pub(crate) fn mount(text: &str) -> Result<Mount> {
    let (mut kind, mut source, mut target, mut read_only) = (None, None, None, false);
    let (mut size, mut mode, mut make) = (None, None, false);
    for option in text.split(',') {
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("type", Some(value)) => kind = Some(value),
            ("source" | "src", Some(value)) => source = Some(value),
            ("target" | "dst" | "destination", Some(value)) => target = Some(value),
            ("readonly" | "ro", None | Some("true" | "1")) => read_only = true,
            ("readonly" | "ro", Some("false" | "0")) => read_only = false,
            ("tmpfs-size", Some(value)) => {
                size = Some(super::memory::parse(value).with_context(|| format!("--mount {text}"))?);
            }
            ("tmpfs-mode", Some(value)) => mode = Some(octal(value).with_context(|| format!("--mount {text}"))?),
            ("bind-create-src" | "create-src", None | Some("true" | "1")) => make = true,
            // So it is: nothing that is mounted later comes through, what is in an image stays there, caches are one.
            ("bind-propagation", Some("private" | "rprivate")) => {}
            ("volume-nocopy", None | Some("true" | "1")) => {}
            ("volume-driver", Some("local")) => {}
            ("consistency", Some("consistent" | "cached" | "delegated" | "default")) => {}
            ("bind-recursive", Some("enabled" | "writable")) | ("bind-nonrecursive", Some("false" | "0")) => {}
            (
                "bind-propagation" | "bind-recursive" | "bind-nonrecursive" | "volume-nocopy" | "volume-driver"
                | "volume-opt" | "volume-label" | "volume-subpath" | "consistency",
                _,
            ) => bail!("--mount {text}: {option:?} cannot be had here"),
            _ => bail!(
                "--mount {text}: {option:?} is not an option; there are type, source, target, readonly, tmpfs-size, \
                 tmpfs-mode and bind-create-src"
            ),
        }
    }
    let target = target.with_context(|| format!("--mount {text}: target=... is missing"))?;
    let needed = || source.filter(|source| !source.is_empty());
    let source = match kind.unwrap_or("volume") {
        "bind" => {
            let path = needed().with_context(|| format!("--mount {text}: source=... is missing"))?;
            if make { Source::Made(path.into()) } else { Source::Host(path.into()) }
        }
        "volume" => {
            let name = needed().with_context(|| format!("--mount {text}: source=NAME is missing"))?;
            check_name(name).with_context(|| format!("--mount {text}"))?;
            Source::Volume(name.into())
        }
        "tmpfs" if source.is_none() => Source::Memory { size, mode },
        "tmpfs" => bail!("--mount {text}: a tmpfs has no source"),
        other => bail!("--mount {text}: type={other} is not one of bind, volume and tmpfs"),
    };
    Ok(Mount { source, target: absolute(target).with_context(|| format!("--mount {text}"))?, read_only })
}

fn source_of(text: &str) -> Result<Source> {
    if text.contains('/') || text == "." || text == ".." {
        return Ok(Source::Host(text.into()));
    }
    check_name(text)?;
    Ok(Source::Volume(text.into()))
}

/// `1777`.
fn octal(text: &str) -> Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => bail!("{text:?} is not a mode such as 1777"),
    }
}

fn absolute(target: &str) -> Result<PathBuf> {
    if !target.starts_with('/') {
        bail!("the guest's path {target:?} must begin with /");
    }
    Ok(target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(path: &str, target: &str, read_only: bool) -> Mount {
        Mount { source: Source::Host(path.into()), target: target.into(), read_only }
    }

    fn named(name: &str, target: &str) -> Mount {
        Mount { source: Source::Volume(name.into()), target: target.into(), read_only: false }
    }

    #[test]
    fn a_volume_with_a_slash_is_of_the_host() {
        for (text, expected) in [
            ("./a:/b", host("./a", "/b", false)),
            ("/a:/b:ro", host("/a", "/b", true)),
            (".:/b:rw", host(".", "/b", false)),
            ("data:/b", named("data", "/b")),
        ] {
            assert_eq!(volume(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "a", ":/b", "a:b", "a:", "/a:/b:rx", "/a:/b:ro:more", "a b:/c"] {
            let error = format!("{:#}", volume(bad).unwrap_err());
            assert!(error.starts_with("--volume"), "{bad}: {error}");
        }
    }

    fn memory(size: Option<i64>) -> Mount {
        Mount { source: Source::Memory { size, mode: None }, target: "/t".into(), read_only: false }
    }

    #[test]
    fn a_tmpfs_has_a_size_and_a_mode() {
        assert_eq!(tmpfs("/t").unwrap(), memory(None));
        assert_eq!(tmpfs("/t:size=1m,rw,nosuid").unwrap(), memory(Some(1 << 20)));
        let mode = Mount { source: Source::Memory { size: None, mode: Some(0o700) }, read_only: true, ..memory(None) };
        assert_eq!(tmpfs("/t:mode=700,ro").unwrap(), mode);
        for bad in ["", "t", "/t:exec", "/t:size=x", "/t:mode=8"] {
            let error = format!("{:#}", tmpfs(bad).unwrap_err());
            assert!(error.starts_with("--tmpfs"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_mount_has_options() {
        let made = |path: &str| Mount { source: Source::Made(path.into()), ..host(path, "/b", false) };
        for (text, expected) in [
            ("type=bind,source=/a,target=/b", host("/a", "/b", false)),
            ("type=bind,src=/a,dst=/b,readonly", host("/a", "/b", true)),
            ("type=bind,src=/a,destination=/b,ro=true", host("/a", "/b", true)),
            ("source=data,target=/b", named("data", "/b")),
            ("type=tmpfs,target=/t", memory(None)),
            ("type=tmpfs,target=/t,tmpfs-size=1m", memory(Some(1 << 20))),
            (
                "type=tmpfs,target=/t,tmpfs-mode=1770",
                Mount { source: Source::Memory { size: None, mode: Some(0o1770) }, ..memory(None) },
            ),
            ("type=bind,source=/a,target=/b,bind-create-src,bind-propagation=rprivate", made("/a")),
            ("source=data,target=/b,volume-nocopy,volume-driver=local,consistency=cached", named("data", "/b")),
        ] {
            assert_eq!(mount(text).unwrap(), expected, "{text}");
        }
        for (bad, says) in [
            ("", "is not an option"),
            ("type=bind,source=/a", "target=... is missing"),
            ("type=bind,target=/b", "source=... is missing"),
            ("type=volume,source=a/b,target=/b", "cannot be a name"),
            ("type=tmpfs,source=a,target=/b", "has no source"),
            ("type=npipe,target=/b", "bind, volume and tmpfs"),
            ("type=bind,source=/a,target=b", "must begin with /"),
            ("type=bind,colour=red,target=/b", "\"colour=red\""),
            ("type=bind,source=/a,target=/b,bind-propagation=shared", "\"bind-propagation=shared\" cannot be had"),
            ("type=volume,source=a,target=/b,volume-opt=type=nfs", "cannot be had here"),
            ("type=tmpfs,target=/t,tmpfs-mode=9", "is not a mode"),
            ("type=tmpfs,target=/t,tmpfs-size=abc", "--mount type=tmpfs,target=/t,tmpfs-size=abc: \"abc\""),
        ] {
            let error = format!("{:#}", mount(bad).unwrap_err());
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn a_named_volume_is_made_and_a_missing_path_is_not() {
        let dir = tempfile::tempdir().unwrap();
        named("data", "/b").make(dir.path()).unwrap();
        named("data", "/b").make(dir.path()).unwrap();
        assert!(dir.path().join("data").is_dir());
        let error = host("/no/such", "/b", false).make(dir.path()).unwrap_err();
        assert!(error.to_string().contains("mkdir -p /no/such"), "{error}");
    }
}
