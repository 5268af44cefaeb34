//! Records in a bundle, written by rename through its open directory: the zygote has no path to it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::process::Pid;
use samara_shim_client::bundle::{ExitRecord, StartRecord};
use serde::Serialize;

/// `start.json`.
pub(super) fn start(bundle: &OwnedFd, proc: &OwnedFd, pid: Pid) -> io::Result<()> {
    let record =
        StartRecord { pid: pid.as_raw_nonzero().get(), start_time: start_time(proc, pid)?, created_at_nanos: now() };
    write(bundle, "start", &record)
}

/// `exit.json`.
pub(super) fn exit(
    bundle: &OwnedFd,
    pid: Pid,
    exit_code: u8,
    oom_killed: bool,
    message: Option<String>,
) -> io::Result<()> {
    let record = ExitRecord {
        pid: pid.as_raw_nonzero().get(),
        exit_code: u32::from(exit_code),
        oom_killed,
        message,
        exited_at_nanos: now(),
        seen: true,
    };
    write(bundle, "exit", &record)
}

fn write(bundle: &OwnedFd, name: &str, record: &impl Serialize) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let mut file = File::from(openat(bundle, &*temporary, flags, mode)?);
    file.write_all(&serde_json::to_vec(record)?)?;
    drop(file);
    Ok(renameat(bundle, &*temporary, bundle, format!("{name}.json"))?)
}

/// Field 22 of `/proc/<pid>/stat`.
fn start_time(proc: &OwnedFd, pid: Pid) -> io::Result<u64> {
    let path = format!("{}/stat", pid.as_raw_nonzero());
    let stat = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = [0; 1024];
    let length = rustix::io::read(stat, &mut bytes[..])?;
    parse_start_time(&bytes[..length]).ok_or_else(|| io::Error::other("stat of no known form"))
}

/// The second field is the process's name in parentheses, and may hold anything.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 2;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    rest.split(' ').nth(22 - 3)?.parse().ok()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_hide_the_start_time() {
        let fields: Vec<String> = (4..=52).map(|field| (field * 10).to_string()).collect();
        let stat = format!("7 (a) b 1 (2) S {}", fields.join(" "));
        assert_eq!(parse_start_time(stat.as_bytes()), Some(220));
    }

    #[test]
    fn a_cut_stat_has_no_start_time() {
        for stat in ["", "7 (a", "7 (a)", "7 (a) S 1 2 3"] {
            assert_eq!(parse_start_time(stat.as_bytes()), None);
        }
    }

    #[test]
    fn our_own_start_time_is_found() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(start_time(&proc.into(), rustix::process::getpid()).unwrap() > 0);
    }
}
