//! `hostPath`: the path is the host's own; its type is checked, or made if the type says so (Kubernetes: `pkg/volume/hostpath`).

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::directory;

/// The path is not what its type says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("hostPath type check failed: {0}")]
pub(super) struct HostPathError(String);

/// Checks, or makes, and gives the path.
pub(super) fn set_up(source: &HostPathVolumeSource) -> Result<PathBuf, HostPathError> {
    let path = PathBuf::from(&source.path);
    let wanted = source.type_.as_deref().unwrap_or_default();
    if matches!(wanted, "DirectoryOrCreate" | "") && !path.exists() {
        directory::make(&path, 0o755).map_err(|error| HostPathError(error.text()))?;
    }
    if wanted == "FileOrCreate" && !path.exists() {
        fs::File::create(&path).map_err(|error| HostPathError(format!("make file {}: {error}", path.display())))?;
    }
    let (fits, name): (fn(&FileType) -> bool, &str) = match wanted {
        "" => return Ok(path),
        "Directory" | "DirectoryOrCreate" => (FileType::is_dir, "a directory"),
        "File" | "FileOrCreate" => (FileType::is_file, "a file"),
        "Socket" => (FileType::is_socket, "a socket file"),
        "CharDevice" => (FileType::is_char_device, "a character device"),
        "BlockDevice" => (FileType::is_block_device, "a block device"),
        other => return Err(HostPathError(format!("{other} is an invalid volume type"))),
    };
    check(&path, fits, name).map(|()| path)
}

fn check(path: &Path, fits: fn(&FileType) -> bool, name: &str) -> Result<(), HostPathError> {
    match fs::metadata(path) {
        Ok(metadata) if fits(&metadata.file_type()) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HostPathError(format!("{}: {error}", path.display())))
        }
        Ok(_) | Err(_) => Err(HostPathError(format!("{} is not {name}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path, type_: &str) -> Result<PathBuf, HostPathError> {
        let type_ = Some(type_.to_owned());
        set_up(&HostPathVolumeSource { path: path.to_str().unwrap().to_owned(), type_ })
    }

    #[test]
    fn each_type_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (file, socket, missing) = (dir.path().join("file"), dir.path().join("socket"), dir.path().join("missing"));
        fs::write(&file, "x").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let table = [
            (dir.path(), "Directory", None),
            (&file, "Directory", Some("is not a directory")),
            (&missing, "Directory", Some("is not a directory")),
            (&file, "File", None),
            (dir.path(), "File", Some("is not a file")),
            (dir.path(), "FileOrCreate", Some("is not a file")),
            (&socket, "Socket", None),
            (&file, "Socket", Some("is not a socket file")),
            (Path::new("/dev/null"), "CharDevice", None),
            (Path::new("/dev/null"), "BlockDevice", Some("is not a block device")),
            (&file, "Nonsense", Some("Nonsense is an invalid volume type")),
        ];
        for (path, type_, want) in table {
            match (at(path, type_), want) {
                (Ok(given), None) => assert_eq!(given, path),
                (Err(error), Some(want)) => assert!(error.to_string().ends_with(want), "{type_}: {error}"),
                (result, want) => panic!("{type_}: {result:?}, not {want:?}"),
            }
        }
        assert!(!missing.exists());
    }

    #[test]
    fn what_may_be_made_is_made() {
        let dir = tempfile::tempdir().unwrap();
        for (name, type_) in [("a/b", "DirectoryOrCreate"), ("c", "")] {
            assert!(at(&dir.path().join(name), type_).unwrap().is_dir());
        }
        assert!(at(&dir.path().join("f"), "FileOrCreate").unwrap().is_file());
    }
}
