//! What a process leaves behind: read by the zygote when it reaps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

/// Size of the report memfd. It cannot grow: a hostile process fills 4 KiB and no more.
pub const REPORT_SIZE: u64 = 4096;

/// Longest message in bytes, so that it fits even if every byte of it needs an escape in JSON.
const MESSAGE: usize = 640;

/// Why a process ended, in its own words: JSON at the start of the report memfd, ended by a NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its memory limit was reached.
    pub oom: bool,
    /// A trap's message or the reason why it could not be set up.
    pub message: Option<String>,
}

impl Report {
    /// An empty report file.
    pub fn file() -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
        let file = match rustix::fs::memfd_create("samara-report", flags) {
            Err(rustix::io::Errno::INVAL) => {
                // Kernels before 6.3 do not know NOEXEC_SEAL.
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
                rustix::fs::memfd_create("samara-report", flags)?
            }
            other => other?,
        };
        rustix::fs::ftruncate(&file, REPORT_SIZE)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(file)
    }

    /// Leaves the report; a long message is cut.
    pub fn write(&self, file: impl AsFd) -> io::Result<()> {
        let cut = |message: &String| message[..message.floor_char_boundary(MESSAGE)].to_owned();
        let report = Self { oom: self.oom, message: self.message.as_ref().map(cut) };
        let mut bytes = serde_json::to_vec(&report)?;
        bytes.push(0);
        rustix::io::pwrite(file, &bytes, 0)?;
        Ok(())
    }

    /// What was left: nothing, if the process wrote none or wrote nonsense.
    pub fn read(file: impl AsFd) -> Self {
        let mut bytes = [0; REPORT_SIZE as usize];
        let Ok(length) = rustix::io::pread(file, &mut bytes[..], 0) else {
            return Self::default();
        };
        let text = bytes[..length].split(|byte| *byte == 0).next().unwrap_or_default();
        serde_json::from_slice(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let file = Report::file().unwrap();
        let report = Report { oom: true, message: Some("memory limit of 1 MiB reached".into()) };
        report.write(&file).unwrap();
        assert_eq!(Report::read(&file), report);
    }

    #[test]
    fn a_long_message_is_cut_and_still_read() {
        let file = Report::file().unwrap();
        Report { oom: false, message: Some("\u{1}é".repeat(10_000)) }.write(&file).unwrap();
        let message = Report::read(&file).message.unwrap();
        assert!(message.len() <= MESSAGE && message.starts_with("\u{1}é"));
    }

    #[test]
    fn nonsense_is_an_empty_report() {
        let file = Report::file().unwrap();
        assert_eq!(Report::read(&file), Report::default());
        for nonsense in [b"{".as_slice(), b"{\"oom\":7}\0", &[0xff; REPORT_SIZE as usize]] {
            rustix::io::pwrite(&file, nonsense, 0).unwrap();
            assert_eq!(Report::read(&file), Report::default());
        }
    }

    #[test]
    fn a_report_file_cannot_be_made_larger_or_smaller() {
        let file = Report::file().unwrap();
        assert!(rustix::fs::ftruncate(&file, REPORT_SIZE + 1).is_err());
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
        assert!(rustix::io::pwrite(&file, b"x", REPORT_SIZE).is_err());
    }
}
