//! A file system for a kernel: a cpio archive ("newc"), as `Documentation/driver-api/early-userspace` describes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// Files by their path in the machine.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    files: BTreeMap<String, Content>,
}

#[derive(Debug)]
enum Content {
    Text(String),
    File(PathBuf),
    /// A program, without what only a debugger reads.
    Stripped(PathBuf),
}

impl Initramfs {
    /// A text.
    pub(crate) fn text(&mut self, path: &str, text: &str) {
        self.files.insert(path.to_owned(), Content::Text(text.to_owned()));
    }

    /// A copy of a file.
    pub(crate) fn file(&mut self, from: &Path, path: &str) -> Result<()> {
        ensure!(from.exists(), "{} is missing", from.display());
        self.files.insert(path.to_owned(), Content::File(from.to_owned()));
        Ok(())
    }

    /// A program with the libraries it needs.
    pub(crate) fn program(&mut self, from: &Path, path: &str) -> Result<()> {
        ensure!(from.exists(), "{} is missing", from.display());
        let output = Command::new("ldd").arg(from).output().context("start ldd")?;
        let text = String::from_utf8_lossy(&output.stdout);
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            self.file(Path::new(library), library)?;
        }
        self.files.insert(path.to_owned(), Content::Stripped(from.to_owned()));
        Ok(())
    }

    /// Writes the archive.
    pub(crate) fn write(&self, to: &Path) -> Result<()> {
        let mut archive = Vec::new();
        let mut number = 0;
        for directory in self.directories() {
            number += 1;
            entry(&mut archive, number, &directory, DIRECTORY, &[])?;
        }
        for (path, content) in &self.files {
            number += 1;
            entry(&mut archive, number, path, FILE, &bytes(content)?)?;
        }
        entry(&mut archive, 0, "TRAILER!!!", 0, &[])?;
        fs::write(to, archive).with_context(|| format!("write {}", to.display()))
    }

    /// Every parent of every file.
    fn directories(&self) -> BTreeSet<String> {
        let parents = self.files.keys().flat_map(|path| Path::new(path).ancestors().skip(1));
        let named = parents.map(|path| path.to_string_lossy().into_owned());
        named.filter(|path| path != "/" && !path.is_empty()).collect()
    }
}

fn bytes(content: &Content) -> Result<Vec<u8>> {
    match content {
        Content::Text(text) => Ok(text.clone().into_bytes()),
        Content::File(path) => fs::read(path).with_context(|| format!("read {}", path.display())),
        Content::Stripped(path) => {
            let file = tempfile::NamedTempFile::new()?;
            let stripped = Command::new("strip").arg("--strip-debug").arg("-o").arg(file.path()).arg(path).status();
            let from = if stripped.is_ok_and(|status| status.success()) { file.path() } else { path };
            fs::read(from).with_context(|| format!("read {}", from.display()))
        }
    }
}

/// One entry: a header of thirteen numbers, the name, the bytes; the last two padded to four.
fn entry(archive: &mut Vec<u8>, number: u32, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let name = path.trim_start_matches('/');
    let size = u32::try_from(bytes.len()).context("a file of 4 GiB")?;
    let length = u32::try_from(name.len() + 1)?;
    archive.write_all(b"070701")?;
    for field in [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0] {
        write!(archive, "{field:08X}")?;
    }
    archive.write_all(name.as_bytes())?;
    archive.push(0);
    pad(archive);
    archive.write_all(bytes)?;
    pad(archive);
    Ok(())
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
