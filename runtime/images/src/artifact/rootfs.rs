//! An OCI image whose root holds the wasm: one layer, made entry by entry.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::{Artifact, ArtifactError, ArtifactFile, Blob, Source, os, start_of, to_json};
use crate::digest::{Digest, Hasher};
use crate::format::{ImageConfig, WasmKind};
use crate::media_type;

/// Gathers what goes into an image's root. Parents are made with mode 0755; everything belongs to root and has no time.
#[derive(Debug, Clone, Default)]
pub struct RootfsBuilder {
    /// By path, without the leading slash.
    entries: BTreeMap<String, Entry>,
    config: ImageConfig,
    platform: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Directory { mode: u32 },
    File { from: PathBuf, mode: u32 },
    Text { bytes: Vec<u8>, mode: u32 },
    Link { target: String },
}

impl RootfsBuilder {
    /// An empty root.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the image wants to be run.
    pub fn config(mut self, config: ImageConfig) -> Self {
        self.config = config;
        self
    }

    /// `os` and `architecture` instead of those found: `wasm`, and `wasip2` if a file is a component, else `wasip1`.
    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        self.platform = Some((os.to_owned(), architecture.to_owned()));
        self
    }

    /// A copy of a file of this machine.
    pub fn file(self, path: &str, from: &Path, mode: u32) -> Result<Self, ArtifactError> {
        self.add(path, Entry::File { from: from.to_owned(), mode })
    }

    /// A file with these bytes.
    pub fn bytes(self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Result<Self, ArtifactError> {
        self.add(path, Entry::Text { bytes: bytes.into(), mode })
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Result<Self, ArtifactError> {
        self.add(path, Entry::Link { target: target.to_owned() })
    }

    /// An empty directory.
    pub fn directory(self, path: &str, mode: u32) -> Result<Self, ArtifactError> {
        self.add(path, Entry::Directory { mode })
    }

    /// All files, directories and symbolic links below a directory of this machine, with their modes. Others are left out.
    pub fn tree(mut self, path: &str, from: &Path) -> Result<Self, ArtifactError> {
        let mut ahead = vec![(path.trim_end_matches('/').to_owned(), from.to_owned())];
        while let Some((path, from)) = ahead.pop() {
            let read = |source| ArtifactError::Read { path: from.clone(), source };
            let about = fs::symlink_metadata(&from).map_err(read)?;
            let mode = about.permissions().mode() & 0o777;
            if about.is_dir() {
                for entry in fs::read_dir(&from).map_err(read)? {
                    let entry = entry.map_err(read)?;
                    let name = entry.file_name();
                    let name = name.to_str().ok_or_else(|| ArtifactError::Path(name.to_string_lossy().into_owned()))?;
                    ahead.push((format!("{path}/{name}"), entry.path()));
                }
                if !path.is_empty() {
                    self = self.directory(&path, mode)?;
                }
            } else if about.is_symlink() {
                let target = fs::read_link(&from).map_err(read)?;
                self = self.link(&path, &target.to_string_lossy())?;
            } else if about.is_file() {
                self = self.file(&path, &from, mode)?;
            }
        }
        Ok(self)
    }

    fn add(mut self, path: &str, entry: Entry) -> Result<Self, ArtifactError> {
        let invalid = || ArtifactError::Path(path.to_owned());
        let names = path.strip_prefix('/').ok_or_else(invalid)?;
        if names.split('/').any(|name| matches!(name, "" | "." | "..") || name.contains('\0')) {
            return Err(invalid());
        }
        for (end, _) in names.match_indices('/') {
            let parent = self.entries.entry(names[..end].to_owned()).or_insert(Entry::Directory { mode: 0o755 });
            if !matches!(parent, Entry::Directory { .. }) {
                return Err(ArtifactError::Twice(path.to_owned()));
            }
        }
        let is_directory = matches!(entry, Entry::Directory { .. });
        match self.entries.insert(names.to_owned(), entry) {
            None => Ok(self),
            // A parent that was made for another is now named itself.
            Some(Entry::Directory { .. }) if is_directory => Ok(self),
            Some(_) => Err(ArtifactError::Twice(path.to_owned())),
        }
    }

    /// Makes the image: one gzip layer, and a configuration. Blocks.
    pub fn build(self) -> Result<Artifact, ArtifactError> {
        let (layer, diff_id) = self.layer()?;
        let (os, architecture) = match self.platform.clone() {
            Some(platform) => platform,
            None => (os(self.kind()?).to_owned(), "wasm".to_owned()),
        };
        let config = to_json(&serde_json::json!({
            "architecture": architecture,
            "os": os,
            "config": oci_config(&self.config),
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }));
        Ok(Artifact::assemble(media_type::OCI_CONFIG, config, vec![(media_type::OCI_LAYER_GZIP, layer)]))
    }

    fn kind(&self) -> Result<WasmKind, ArtifactError> {
        for entry in self.entries.values() {
            let kind = match entry {
                Entry::File { from, .. } => {
                    let start = start_of(from).map_err(|source| ArtifactError::Read { path: from.clone(), source })?;
                    WasmKind::of(&start)
                }
                Entry::Text { bytes, .. } => WasmKind::of(bytes),
                Entry::Directory { .. } | Entry::Link { .. } => continue,
            };
            if kind == Ok(WasmKind::Component) {
                return Ok(WasmKind::Component);
            }
        }
        Ok(WasmKind::Module)
    }

    fn layer(&self) -> Result<(Blob, Digest), ArtifactError> {
        let file = NamedTempFile::new().map_err(ArtifactError::Write)?;
        let outside = Hashing::new(file);
        let inside = Hashing::new(GzEncoder::new(outside, Compression::default()));
        let mut archive = tar::Builder::new(inside);
        for (path, entry) in &self.entries {
            append(&mut archive, path, entry)?;
        }
        let inside = archive.into_inner().map_err(ArtifactError::Write)?;
        let diff_id = inside.hasher.finish();
        let mut outside = inside.inner.finish().map_err(ArtifactError::Write)?;
        outside.flush().map_err(ArtifactError::Write)?;
        let file = ArtifactFile::Temporary(Arc::new(outside.inner.into_temp_path()));
        let layer = Blob { digest: outside.hasher.finish(), size: outside.length, source: Source::File(file) };
        Ok((layer, diff_id))
    }
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, entry: &Entry) -> Result<(), ArtifactError> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Directory { mode } => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            archive.append_data(&mut header, format!("{path}/"), io::empty()).map_err(ArtifactError::Write)
        }
        Entry::File { from, mode } => {
            let read = |source| ArtifactError::Read { path: from.clone(), source };
            let file = File::open(from).map_err(read)?;
            header.set_size(file.metadata().map_err(read)?.len());
            header.set_mode(*mode);
            archive.append_data(&mut header, path, file).map_err(ArtifactError::Write)
        }
        Entry::Text { bytes, mode } => {
            header.set_size(bytes.len() as u64);
            header.set_mode(*mode);
            archive.append_data(&mut header, path, bytes.as_slice()).map_err(ArtifactError::Write)
        }
        Entry::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, path, target).map_err(ArtifactError::Write)
        }
    }
}

/// The `config` object of an OCI image configuration; what is empty is left out.
fn oci_config(config: &ImageConfig) -> serde_json::Map<String, serde_json::Value> {
    use serde_json::{Map, Value, json};
    let set = |names: &[String]| -> Map<String, Value> { names.iter().map(|name| (name.clone(), json!({}))).collect() };
    let all = [
        ("Entrypoint", json!(config.entrypoint)),
        ("Cmd", json!(config.cmd)),
        ("Env", json!(config.env)),
        ("WorkingDir", json!(config.working_dir)),
        ("User", json!(config.user)),
        ("StopSignal", json!(config.stop_signal)),
        ("Volumes", Value::Object(set(&config.volumes))),
        ("ExposedPorts", Value::Object(set(&config.exposed_ports))),
        ("Labels", json!(config.labels)),
    ];
    let is_empty = |value: &Value| *value == json!("") || *value == json!([]) || *value == json!({});
    all.into_iter().filter(|(_, value)| !is_empty(value)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    length: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::sha256(), length: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
