//! Reading a file that somebody else chose. A path of a bundle may lead to a fifo, which would hold up every container of
//! the front, or to a device without end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading, and nothing else.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Its content, at most `largest` bytes; [`io::ErrorKind::FileTooLarge`] for more.
pub(crate) fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {largest} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_has_no_end_or_would_wait_is_refused_at_once() {
        let dir = tempfile::tempdir().expect("directory");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
        let link = dir.path().join("link");
        symlink("/dev/zero", &link).expect("link");
        for path in [fifo.as_path(), &link, dir.path()] {
            let error = read(path, 16).expect_err("no regular file");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "sixteen bytes...").expect("written");
        assert_eq!(read(file.path(), 16).expect("read"), b"sixteen bytes...");
        assert_eq!(read(file.path(), 15).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&file.path().join("none"), 1).expect_err("none").kind(), io::ErrorKind::NotADirectory);
    }
}
