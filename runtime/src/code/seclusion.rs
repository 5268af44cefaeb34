//! What the compile worker may ask of the kernel from the moment on at which it reads its input: to answer.
//!
//! Not here, so refused: opening anything by its name, sockets, processes, signals to others, executing. Memory may become
//! executable: the worker links what it has compiled.

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// The kernel did not take the filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeclusionError {
    #[error("compile a seccomp filter")]
    Compile(#[from] seccompiler::BackendError),
    #[error("apply a seccomp filter")]
    Apply(#[from] seccompiler::Error),
}

/// For the calling thread and those it starts from now on, for ever.
pub(super) fn seclude() -> Result<(), SeclusionError> {
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = |errno: i32| SeccompAction::Errno(errno.cast_unsigned());
    let mut allowed: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    for (call, argument, mask, value) in checked() {
        let operator = SeccompCmpOp::MaskedEq(u64::from(mask));
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value))?;
        allowed.entry(call).or_default().push(SeccompRule::new(vec![condition])?);
    }
    let filter = SeccompFilter::new(allowed, refused(EPERM), SeccompAction::Allow, here)?;
    // It hides its flags from filters; C libraries then do with `clone`.
    let absent = [(SYS_clone3, Vec::new())].into();
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, refused(ENOSYS), here)?;
    // The first allows what applying the second takes.
    for filter in [filter, absent] {
        seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    }
    Ok(())
}

const ALLOWED: &[i64] = &[
    // Files that are open.
    SYS_read,
    SYS_readv,
    SYS_write,
    SYS_writev,
    SYS_lseek,
    SYS_close,
    SYS_fcntl,
    // Memory.
    SYS_brk,
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_membarrier,
    // Threads and time.
    SYS_clone3,
    SYS_futex,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_sigaltstack,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_getcpu,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_exit,
    SYS_exit_group,
    // Signals of its own.
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    // What it is, and random numbers.
    SYS_getpid,
    SYS_gettid,
    SYS_sysinfo,
    SYS_getrandom,
    // Further filters can only take more away.
    SYS_seccomp,
];

/// Allowed if the argument's lower 32 bits, masked, are the value: call, argument, mask, value.
fn checked() -> [(i64, u8, u32, u32); 5] {
    let all = u32::MAX;
    [
        // A thread.
        (SYS_clone, 0, CLONE_THREAD as u32, CLONE_THREAD as u32),
        // Of itself: how it aborts.
        (SYS_tgkill, 0, all, std::process::id()),
        // Of its own limits, which it can but lower.
        (SYS_prlimit64, 0, all, 0),
        (SYS_prctl, 0, all, PR_SET_NAME as u32),
        (SYS_prctl, 0, all, PR_SET_NO_NEW_PRIVS as u32),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn whoever_is_secluded_can_compute_and_do_nothing_else() {
        // The filter holds for one thread and those it starts.
        let secluded = thread::spawn(|| {
            seclude().unwrap();
            let denied = [
                ("open", File::open("/etc/passwd").map(drop)),
                ("look", std::fs::metadata("/etc/passwd").map(drop)),
                ("socket", UdpSocket::bind("127.0.0.1:0").map(drop)),
                ("pair", std::os::unix::net::UnixStream::pair().map(drop)),
                ("process", Command::new("/bin/true").spawn().map(drop)),
                ("signal", rustix::process::test_kill_process_group(rustix::process::Pid::INIT).map_err(Into::into)),
            ];
            let computed = thread::spawn(|| (0..1000_u64).map(|n| vec![n; 1000].len()).sum::<usize>()).join().unwrap();
            (denied.map(|(what, done)| (what, done.map_err(|error| error.kind()))), computed)
        });
        let (denied, computed) = secluded.join().unwrap();
        for (what, done) in denied {
            assert_eq!(done, Err(ErrorKind::PermissionDenied), "{what}");
        }
        assert_eq!(computed, 1_000_000);
        assert!(File::open("/etc/passwd").is_ok(), "nobody else is");
    }
}
