//! What `docker save` wrote before version 25, and `podman save` and `crane pull` still do: the same content under other names.
//! A `manifest.json` lists each image's configuration and layers; of that a layout is made.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::names::WHOLE_NAME;
use super::{LONGEST_INDEX, LayoutError, blob};
use crate::digest::{Digest, Hasher};
use crate::format::{Descriptor, Index, Manifest};
use crate::media_type;

/// The list of what is in such an archive.
const LIST: &str = "manifest.json";
/// Longer names are no tool's.
const LONGEST_NAME: usize = 256;
/// A link to a link to a link.
const MOST_LINKS: usize = 8;

/// Files of an archive that may turn out to be docker's: each under a name of ours.
#[derive(Debug, Default)]
pub(super) struct Files {
    count: usize,
    files: HashMap<String, PathBuf>,
    links: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Files {
    /// Where a file of this name is to be put below `root`; `None` if nobody will ask for it.
    pub(super) fn place(&mut self, root: &Path, name: &[u8]) -> Option<PathBuf> {
        let name = resolve("", std::str::from_utf8(name).ok()?)?;
        let place = root.join(format!("file-{}", self.count));
        self.count += 1;
        self.files.insert(name, place.clone());
        Some(place)
    }

    /// Remembers a link, symbolic or hard: layers that images share are such.
    pub(super) fn link(&mut self, name: &[u8], target: &[u8], is_symbolic: bool) {
        let texts = (std::str::from_utf8(name), std::str::from_utf8(target));
        let (Ok(name), Ok(target)) = texts else { return };
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        // A hard one's target is a name of the archive.
        let directory = if is_symbolic { directory } else { "" };
        if let (Some(name), Some(target)) = (resolve("", name), resolve(directory, target)) {
            self.links.insert(name, target);
        }
    }

    fn find(&self, name: &str) -> Option<&Path> {
        let mut name = resolve("", name)?;
        for _ in 0..MOST_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return self.files.get(&name).map(PathBuf::as_path),
            }
        }
        None
    }

    /// Makes a layout below `root` of what is listed, if there is a list.
    pub(super) fn convert(&self, root: &Path) -> Result<(), LayoutError> {
        let Some(list) = self.find(LIST) else { return Ok(()) };
        let invalid = |error: serde_json::Error| LayoutError::Format(format!("{LIST}: {error}"));
        let list: Vec<Saved> = serde_json::from_slice(&bounded(list)?).map_err(invalid)?;
        let mut moved = HashMap::new();
        let mut manifests = Vec::new();
        for saved in list {
            let mut part = |name: &str| {
                let missing = || LayoutError::Format(format!("{LIST} names {name:?}, which is not in the archive"));
                self.part(root, self.find(name).ok_or_else(missing)?, &mut moved)
            };
            let config = Descriptor { media_type: media_type::OCI_CONFIG.to_owned(), ..part(&saved.config)? };
            let layers = saved.layers.iter().map(|name| part(name)).collect::<Result<Vec<_>, _>>()?;
            let media_type = Some(media_type::OCI_MANIFEST.to_owned());
            let manifest =
                Manifest { schema_version: 2, media_type, artifact_type: None, config, layers, annotations: None };
            let bytes = serde_json::to_vec(&manifest).map_err(invalid)?;
            let digest = Digest::of(&bytes);
            fs::write(root.join(blob(&digest)), &bytes).map_err(LayoutError::Write)?;
            let named = |name: Option<String>| Descriptor {
                annotations: name.map(|name| BTreeMap::from([(WHOLE_NAME.to_owned(), name)])),
                ..descriptor(media_type::OCI_MANIFEST, digest.clone(), bytes.len() as u64)
            };
            let names = saved.repo_tags.unwrap_or_default();
            match names.is_empty() {
                true => manifests.push(named(None)),
                false => manifests.extend(names.into_iter().map(|name| named(Some(name)))),
            }
        }
        let index = Index { schema_version: 2, media_type: Some(media_type::OCI_INDEX.to_owned()), manifests };
        let index = serde_json::to_vec(&index).map_err(invalid)?;
        fs::write(root.join("index.json"), index).map_err(LayoutError::Write)
    }

    /// Moves a file to where a layout has it; once, however many images have it.
    fn part(
        &self,
        root: &Path,
        file: &Path,
        moved: &mut HashMap<PathBuf, Descriptor>,
    ) -> Result<Descriptor, LayoutError> {
        if let Some(part) = moved.get(file) {
            return Ok(part.clone());
        }
        let (digest, size, kind) = look(file).map_err(LayoutError::Write)?;
        fs::rename(file, root.join(blob(&digest))).map_err(LayoutError::Write)?;
        let part = descriptor(kind, digest, size);
        moved.insert(file.to_owned(), part.clone());
        Ok(part)
    }
}

fn descriptor(kind: &str, digest: Digest, size: u64) -> Descriptor {
    let media_type = kind.to_owned();
    Descriptor { media_type, artifact_type: None, digest, size, annotations: None, platform: None }
}

/// Digest, length, and what kind of layer it would be.
fn look(path: &Path) -> io::Result<(Digest, u64, &'static str)> {
    let (mut file, mut hasher, mut size) = (File::open(path)?, Hasher::sha256(), 0);
    let (mut buffer, mut kind) = (vec![0; 256 << 10], media_type::OCI_LAYER);
    loop {
        let count = file.read(&mut buffer)?;
        match &buffer[..count] {
            [] => return Ok((hasher.finish(), size, kind)),
            [0x1f, 0x8b, ..] if size == 0 => kind = media_type::OCI_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd, ..] if size == 0 => kind = media_type::OCI_LAYER_ZSTD,
            _ => {}
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

fn bounded(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_INDEX + 1).read_to_end(&mut bytes));
    match read.map_err(LayoutError::Write)? as u64 > LONGEST_INDEX {
        true => Err(LayoutError::TooLong { name: LIST.to_owned(), longest: LONGEST_INDEX }),
        false => Ok(bytes),
    }
}

/// A name from a directory of the archive, without `.` and `..`; `None` if it leads out.
fn resolve(directory: &str, name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let name = parts.join("/");
    (!name.is_empty() && name.len() <= LONGEST_NAME).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_inside_the_archive_and_not_for_ever() {
        let (root, mut files) = (Path::new("/x"), Files::default());
        let place = files.place(root, b"./b/layer.tar").unwrap();
        files.link(b"a/layer.tar", b"../b/layer.tar", true);
        files.link(b"hard/layer.tar", b"b/layer.tar", false);
        files.link(b"loop", b"pool", true);
        files.link(b"pool", b"./loop", true);
        files.link(b"out", b"../../etc/passwd", true);
        assert_eq!(place, root.join("file-0"));
        for name in ["b/layer.tar", "a/layer.tar", "hard/layer.tar", "./a/../b//layer.tar"] {
            assert_eq!(files.find(name), Some(place.as_path()), "{name}");
        }
        for name in ["loop", "out", "none", "", ".", "../b/layer.tar"] {
            assert_eq!(files.find(name), None, "{name}");
        }
        assert_eq!(files.place(root, &[b'x'; 300]), None);
    }

    #[test]
    fn of_two_files_of_one_name_the_later_one_counts_and_no_other_has_its_place() {
        let (root, mut files) = (Path::new("/x"), Files::default());
        let [first, second, other] = [b"a", b"a", b"b"].map(|name| files.place(root, name).unwrap());
        assert_eq!((files.find("a"), files.find("b")), (Some(second.as_path()), Some(other.as_path())));
        assert!(first != second && second != other && first != other);
    }
}
