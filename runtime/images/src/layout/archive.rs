//! A layout out of its tar archive.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::LayoutError;
use super::docker::Files;
use crate::digest::{Digest, Hasher};
use crate::unpack::{Input, UnpackError};

/// Blobs of the images that one archive can hold.
const MOST_ENTRIES: u64 = 100_000;

/// Unpacks a layout, or makes one of docker's own form; all of it files with names that we make ourselves.
pub(super) fn unpack(archive: Box<dyn Read + Send>, scratch: &Path, most: u64) -> Result<TempDir, LayoutError> {
    let directory = tempfile::tempdir_in(scratch).map_err(LayoutError::Write)?;
    for algorithm in ["sha256", "sha512"] {
        fs::create_dir_all(directory.path().join("blobs").join(algorithm)).map_err(LayoutError::Write)?;
    }
    let input = Input::new(archive, Hasher::sha256(), most, Arc::default())?;
    let unreadable = |error| LayoutError::Archive(input.explain(error));
    let mut archive = tar::Archive::new(&input);
    let mut entries = archive.entries().map_err(unreadable)?;
    let mut others = Files::default();
    let mut count = 0;
    loop {
        input.expect_header();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable)?;
        count += 1;
        if count > MOST_ENTRIES {
            return Err(UnpackError::TooManyEntries(MOST_ENTRIES).into());
        }
        input.expect_content();
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let path = entry.path_bytes().into_owned();
            let own = name(&path).map(|name| directory.path().join(name));
            if let Some(place) = own.or_else(|| others.place(directory.path(), &path)) {
                let mut file = File::create(place).map_err(LayoutError::Write)?;
                copy(&mut entry, &mut file, &input)?;
            }
        } else if let Some(target) = entry.link_name_bytes() {
            others.link(&entry.path_bytes(), &target, kind.is_symlink());
        }
        // What is left of it is read here, where its length is known, so that the next header's bound holds.
        io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
    }
    if !directory.path().join("index.json").exists() {
        others.convert(directory.path())?;
    }
    Ok(directory)
}

/// Tells a disk that is full from an archive that is damaged.
fn copy(entry: &mut impl Read, file: &mut File, input: &Input) -> Result<(), LayoutError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match entry.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => file.write_all(&buffer[..count]).map_err(LayoutError::Write)?,
            Err(error) => return Err(LayoutError::Archive(input.explain(error))),
        }
    }
}

/// What an entry is in a layout; `None` for what is none of our business.
fn name(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    let text = text.strip_prefix("./").unwrap_or(text);
    if text == "index.json" {
        return Some(text.to_owned());
    }
    let (algorithm, hex) = text.strip_prefix("blobs/")?.split_once('/')?;
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    Some(super::blob(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_layouts_files_have_names() {
        let hex = "0".repeat(64);
        let blob = format!("blobs/sha256/{hex}");
        for (raw, expected) in [
            ("index.json", Some("index.json")),
            ("./index.json", Some("index.json")),
            (&format!("./{blob}"), Some(blob.as_str())),
            (&blob, Some(blob.as_str())),
            ("oci-layout", None),
            ("/index.json", None),
            ("../index.json", None),
            ("blobs/sha256/../../../etc/passwd", None),
            (&format!("blobs/md5/{hex}"), None),
            (&format!("{blob}/x"), None),
        ] {
            assert_eq!(name(raw.as_bytes()).as_deref(), expected, "{raw}");
        }
    }
}
