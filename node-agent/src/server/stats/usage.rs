//! What directories hold: walked, and remembered for a while, for many may ask and few files change.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So long a walk counts (the kubelet's own period for volumes is a minute).
const GOOD_FOR: Duration = Duration::from_secs(10);
/// `st_blocks` counts in these.
const BLOCK: u64 = 512;

/// Of a directory and all below it on the same file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Usage {
    /// Walks it. What is gone meanwhile counts nothing; a file with several names counts for each.
    pub(super) fn of(dir: &Path) -> Self {
        let Ok(top) = fs::symlink_metadata(dir) else { return Self::default() };
        let mut usage = Self { bytes: top.blocks() * BLOCK, inodes: 1 };
        let mut left = vec![dir.to_owned()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                // Of the link, not of what it leads to.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.dev() != top.dev() {
                    continue;
                }
                usage.bytes += metadata.blocks() * BLOCK;
                usage.inodes += 1;
                if metadata.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        usage
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}

/// Remembers walks.
#[derive(Debug, Default)]
pub(super) struct Walks(Mutex<HashMap<PathBuf, (Instant, Usage)>>);

impl Walks {
    /// As it was at most ten seconds before `now`.
    pub(super) fn usage(&self, dir: &Path, now: Instant) -> Usage {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| now.saturating_duration_since(*at) < GOOD_FOR);
        if let Some((_, usage)) = known.get(dir) {
            return *usage;
        }
        let usage = Usage::of(dir);
        known.insert(dir.to_owned(), (now, usage));
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_counts_and_what_a_link_leads_to_does_not() {
        let (dir, elsewhere) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
        fs::write(elsewhere.path().join("large"), vec![1; 1 << 20]).expect("written");
        fs::create_dir_all(dir.path().join("a/b")).expect("made");
        fs::write(dir.path().join("a/b/file"), vec![1; 100_000]).expect("written");
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("link")).expect("linked");
        let usage = Usage::of(dir.path());
        assert_eq!(usage.inodes, 5);
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
        assert_eq!(Usage::of(Path::new("/nonexistent")), Usage::default());
    }

    #[test]
    fn a_walk_is_made_again_after_ten_seconds() {
        let (dir, now) = (tempfile::tempdir().expect("a directory"), Instant::now());
        let walks = Walks::default();
        let inodes = |seconds| walks.usage(dir.path(), now + Duration::from_secs(seconds)).inodes;
        assert_eq!(inodes(0), 1);
        fs::write(dir.path().join("file"), "x").expect("written");
        assert_eq!((inodes(9), inodes(10)), (1, 2));
    }
}
