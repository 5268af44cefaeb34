//! Reads manifests: a directory of files, or one file. No policy but which files count.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use samara_core::manifest::{self, MOST_BYTES, Object};
use samara_core::statics::Naming;

/// Where manifests are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifests {
    /// `staticPodPath`: a directory, or a file.
    pub path: PathBuf,
    /// `fileCheckFrequency`: looked at so often, and whenever the kernel says that something changed. Default 20 s.
    pub every: Duration,
    /// Whether pods have the node's name behind their own.
    pub naming: Naming,
}

/// What one file holds, or what is wrong with it.
pub(super) type Read = Result<Vec<Object>, String>;

/// Every manifest by its path. A directory that is not there has none; one that cannot be read is an error.
pub(super) fn read_all(path: &Path) -> io::Result<BTreeMap<PathBuf, Read>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        metadata => metadata?,
    };
    if metadata.is_file() {
        return Ok(BTreeMap::from([(path.to_owned(), read(path))]));
    }
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // A fifo would be waited for; directories are not gone into.
        if !hidden && fs::metadata(&file).is_ok_and(|metadata| metadata.is_file()) {
            all.insert(file.clone(), read(&file));
        }
    }
    Ok(all)
}

fn read(path: &Path) -> Read {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!("larger than {MOST_BYTES} bytes"));
    }
    manifest::parse(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: a}}";

    #[test]
    fn every_visible_file_of_a_directory_counts_and_what_is_wrong_with_one_is_no_matter_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
        write("a.yaml", POD.as_bytes());
        write("b", POD.as_bytes());
        write(".a.yaml.swp", POD.as_bytes());
        write("c.yaml", b"a: [");
        write("d.yaml", b"\xff\xfe");
        fs::create_dir(dir.path().join("e")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("f"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        File::create(dir.path().join("g")).unwrap().set_len(MOST_BYTES + 1).unwrap();
        let all = read_all(dir.path()).unwrap();
        let names: Vec<_> = all.keys().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.yaml", "b", "c.yaml", "d.yaml", "g"]);
        let good: Vec<_> = all.values().map(Result::is_ok).collect();
        assert_eq!(good, [true, true, false, false, false]);
        assert!(all[&dir.path().join("g")].as_ref().unwrap_err().contains("larger"));
    }

    #[test]
    fn one_file_is_enough_and_nothing_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pod.yaml");
        assert_eq!(read_all(&file).unwrap(), BTreeMap::new());
        fs::write(&file, POD).unwrap();
        assert_eq!(read_all(&file).unwrap().len(), 1);
    }
}
