//! Entries of the cache that this process has verified, kept open.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use super::digest::Digest;

/// Most that are kept; the one that was not asked for the longest goes first, and is verified anew when it is.
const MOST: usize = 64;

/// Open files by the digest of their wasm.
#[derive(Debug, Default)]
pub(super) struct Verified {
    files: HashMap<Digest, Entry>,
    asked: u64,
}

#[derive(Debug)]
struct Entry {
    file: File,
    /// Which question was the last one for it.
    asked: u64,
}

impl Verified {
    pub(super) fn get(&mut self, digest: &Digest) -> io::Result<Option<File>> {
        self.asked += 1;
        let Some(entry) = self.files.get_mut(digest) else { return Ok(None) };
        entry.asked = self.asked;
        entry.file.try_clone().map(Some)
    }

    pub(super) fn insert(&mut self, digest: Digest, file: File) {
        self.forget_removed();
        self.asked += 1;
        if self.files.len() >= MOST
            && let Some(oldest) =
                self.files.iter().min_by_key(|(_, entry)| entry.asked).map(|(digest, _)| digest.clone())
        {
            self.files.remove(&oldest);
        }
        self.files.insert(digest, Entry { file, asked: self.asked });
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        self.files.remove(digest);
    }

    /// Closes what has no name any more: nobody but us holds its place on the disk.
    pub(super) fn forget_removed(&mut self) {
        self.files.retain(|_, entry| entry.file.metadata().is_ok_and(|about| about.nlink() > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        Digest::parse(&format!("sha256:{number:064x}")).unwrap()
    }

    fn has(verified: &mut Verified, number: usize) -> bool {
        verified.get(&digest(number)).unwrap().is_some()
    }

    #[test]
    fn those_asked_for_lately_are_kept_up_to_a_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut verified = Verified::default();
        for number in 0..MOST {
            verified.insert(digest(number), file.reopen().unwrap());
        }
        assert!(has(&mut verified, 0));
        verified.insert(digest(MOST), file.reopen().unwrap());
        let gone: Vec<_> = (0..=MOST).filter(|number| !has(&mut verified, *number)).collect();
        assert_eq!(gone, [1], "the one that was not asked for the longest has gone");
    }

    #[test]
    fn what_was_removed_from_the_disk_is_let_go_of() {
        let [kept, removed] = [(), ()].map(|()| tempfile::NamedTempFile::new().unwrap());
        let mut verified = Verified::default();
        verified.insert(digest(0), kept.reopen().unwrap());
        verified.insert(digest(1), removed.reopen().unwrap());
        removed.close().unwrap();
        assert!(has(&mut verified, 1), "until somebody looks");
        verified.forget_removed();
        assert!(has(&mut verified, 0) && !has(&mut verified, 1));
    }
}
