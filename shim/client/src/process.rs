//! Naming a process for ever: pid and start time, and a pidfd that is checked against both.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Field 22 of `/proc/<pid>/stat`, clock ticks since boot. `None` when there is no such process.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            parse_start_time(&stat).map(Some).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat: {stat:?}")))
        }
        // ESRCH: it ended between open and read.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The command is in brackets and may itself hold brackets and blanks: count from the last one.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Opens the process if it is still that one. `None` when it is gone, whoever has its pid now.
pub fn open(pid: i32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    if pid <= 0 {
        return Ok(None);
    }
    let Some(id) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let fd = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Read after the open: the pid cannot be given away while the pidfd shows a living process, and a wrong one differs here.
    Ok((self::start_time(pid)? == Some(start_time)).then_some(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_start_time(stat), Some(4711));
        assert_eq!(parse_start_time("42 (short) S 1"), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn a_process_is_opened_by_pid_and_start_time_only() {
        let pid = i32::try_from(std::process::id()).expect("pid");
        let start = start_time(pid).expect("own stat").expect("alive");
        assert!(open(pid, start).expect("open").is_some());
        assert!(open(pid, start + 1).expect("open").is_none(), "another process of that pid");
        assert!(open(-1, 0).expect("open").is_none());
        assert!(open(0, 0).expect("open").is_none());
        assert_eq!(start_time(i32::MAX).expect("no such process"), None);
    }
}
