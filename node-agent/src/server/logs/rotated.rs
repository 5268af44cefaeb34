//! The files of one log in the order of time: `0.log.20260102-030405`, ..., `0.log`.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The file that came after this one; `None` if it is still the newest.
pub(super) async fn successor(path: &Path, identity: &Identity) -> io::Result<Option<PathBuf>> {
    match tokio::fs::metadata(path).await {
        Ok(newest) if Identity::of(&newest) == *identity => return Ok(None),
        Ok(_other) => {}
        // Between the rename and the new file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let rotated = rotated(path).await?;
    let next = match rotated.iter().position(|(_, other)| other == identity) {
        Some(ours) => rotated.get(ours + 1),
        None => rotated.first(),
    };
    Ok(Some(next.map_or_else(|| path.to_owned(), |(path, _)| path.clone())))
}

/// The file that came before this one, if it is still there.
pub(super) async fn predecessor(path: &Path, identity: &Identity) -> io::Result<Option<PathBuf>> {
    let mut rotated = rotated(path).await?;
    let end = rotated.iter().position(|(_, other)| other == identity).unwrap_or(rotated.len());
    rotated.truncate(end);
    Ok(rotated.pop().map(|(path, _)| path))
}

/// Those that can be read as they are, oldest first: their names sort as their times.
async fn rotated(path: &Path) -> io::Result<Vec<(PathBuf, Identity)>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut rotated = Vec::new();
    let mut entries = tokio::fs::read_dir(directory).await?;
    while let Some(entry) = entries.next_entry().await? {
        let is_rotated = entry.file_name().to_str().is_some_and(|entry| {
            entry
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('.') && !rest.ends_with(".gz") && !rest.ends_with(".tmp"))
        });
        if is_rotated && let Ok(metadata) = entry.metadata().await {
            rotated.push((entry.path(), Identity::of(&metadata)));
        }
    }
    rotated.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(rotated)
}
