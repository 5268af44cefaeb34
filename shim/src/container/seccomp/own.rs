//! Samara's own filter: what host code needs while a guest runs, and nothing else.
//!
//! Not here, so refused: executing (`execve`), new processes, new executable memory, tracing, namespaces and mounts,
//! keys, BPF, io_uring, modules, changing ids or capabilities, signals to others, and every call that is not listed.

use libc::*;
use seccompiler::{BackendError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::tree::{Table, Verdict};

/// A condition on one argument's lower 32 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) argument: u8,
    pub(super) mask: u32,
    pub(super) value: u32,
}

impl Check {
    fn rule(self) -> Result<SeccompRule, BackendError> {
        let operator = SeccompCmpOp::MaskedEq(u64::from(self.mask));
        let condition = SeccompCondition::new(self.argument, SeccompCmpArgLen::Dword, operator, u64::from(self.value))?;
        SeccompRule::new(vec![condition])
    }
}

const fn equal(argument: u8, value: u32) -> Check {
    Check { argument, mask: u32::MAX, value }
}

const fn without(argument: u8, bits: i32) -> Check {
    Check { argument, mask: bits as u32, value: 0 }
}

/// All of it; what is not in it is refused with EPERM.
pub(super) fn table() -> Result<Table, BackendError> {
    let verdict = |then: SeccompAction| Verdict { rules: Vec::new(), then };
    let enosys = SeccompAction::Errno(ENOSYS.cast_unsigned());
    let mut table = Table::new();
    table.extend(ALLOWED.iter().copied().flatten().map(|number| (*number, verdict(SeccompAction::Allow))));
    table.extend(ABSENT.iter().map(|number| (*number, verdict(enosys.clone()))));
    for (number, checks) in CHECKED {
        let rules = checks.iter().map(|check| check.rule()).collect::<Result<_, _>>()?;
        table.insert(*number, Verdict { rules, then: SeccompAction::Allow });
    }
    Ok(table)
}

/// Refused with EPERM unless listed here.
pub(super) const ALLOWED: &[&[i64]] = &[
    // Files, by descriptor and below the root.
    &[
        SYS_read,
        SYS_write,
        SYS_readv,
        SYS_writev,
        SYS_pread64,
        SYS_pwrite64,
        SYS_preadv,
        SYS_pwritev,
        SYS_preadv2,
        SYS_pwritev2,
        SYS_lseek,
        SYS_close,
        SYS_close_range,
        SYS_dup,
        SYS_dup3,
        SYS_fcntl,
        SYS_flock,
        SYS_pipe2,
        SYS_splice,
        SYS_sendfile,
        SYS_copy_file_range,
        SYS_openat,
        SYS_openat2,
        SYS_fstat,
        SYS_newfstatat,
        SYS_statx,
        SYS_statfs,
        SYS_fstatfs,
        SYS_getdents64,
        SYS_getcwd,
        SYS_readlinkat,
        SYS_faccessat,
        SYS_faccessat2,
        SYS_mkdirat,
        SYS_unlinkat,
        SYS_renameat2,
        SYS_linkat,
        SYS_symlinkat,
        SYS_ftruncate,
        SYS_truncate,
        SYS_fallocate,
        SYS_fadvise64,
        SYS_readahead,
        SYS_fsync,
        SYS_fdatasync,
        SYS_utimensat,
        SYS_fchmod,
        SYS_fchmodat,
        SYS_memfd_create,
    ],
    // Memory, never executable: see CHECKED for mmap and mprotect.
    &[SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_process_madvise, SYS_msync, SYS_mincore, SYS_membarrier],
    // Threads and time.
    &[
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
        SYS_timerfd_create,
        SYS_timerfd_settime,
        SYS_timerfd_gettime,
        SYS_exit,
        SYS_exit_group,
        SYS_set_tid_address,
    ],
    // Signals of its own. `tgkill` is what `abort` uses; Landlock keeps it inside.
    &[SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_tgkill],
    // Waiting.
    &[SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_ppoll, SYS_pselect6, SYS_eventfd2],
    // Sockets, whose families are in CHECKED.
    &[
        SYS_bind,
        SYS_listen,
        SYS_accept,
        SYS_accept4,
        SYS_connect,
        SYS_getsockname,
        SYS_getpeername,
        SYS_setsockopt,
        SYS_getsockopt,
        SYS_sendto,
        SYS_recvfrom,
        SYS_sendmsg,
        SYS_recvmsg,
        SYS_sendmmsg,
        SYS_recvmmsg,
        SYS_shutdown,
    ],
    // What it is, and random numbers.
    &[
        SYS_getpid,
        SYS_getppid,
        SYS_gettid,
        SYS_getuid,
        SYS_geteuid,
        SYS_getgid,
        SYS_getegid,
        SYS_getgroups,
        SYS_getrusage,
        SYS_uname,
        SYS_sysinfo,
        SYS_getrandom,
    ],
    // Further filters can only take more away; the spec's own profile is stacked on this one.
    &[SYS_seccomp],
    LEGACY,
];

/// Older spellings that only x86-64 has and C libraries still use there.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[i64] = &[
    SYS_poll,
    SYS_select,
    SYS_epoll_wait,
    SYS_dup2,
    SYS_pipe,
    SYS_renameat,
    SYS_time,
    SYS_getdents,
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_unlink,
    SYS_rename,
    SYS_mkdir,
    SYS_rmdir,
    SYS_link,
    SYS_symlink,
];

#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[i64] = &[];

/// Allowed if one of the checks holds.
pub(super) const CHECKED: &[(i64, &[Check])] = &[
    (SYS_mmap, &[without(2, PROT_EXEC)]),
    (SYS_mprotect, &[without(2, PROT_EXEC)]),
    (SYS_clone, &[THREAD]),
    (SYS_socket, &[equal(0, AF_INET as u32), equal(0, AF_INET6 as u32)]),
    (SYS_socketpair, &[equal(0, AF_UNIX as u32)]),
    // Reading limits, not setting them.
    (SYS_prlimit64, &[equal(2, 0)]),
    // The last one can be set only; applying a further filter sets it again.
    (SYS_prctl, &[equal(0, PR_SET_NAME as u32), equal(0, PR_GET_NAME as u32), equal(0, PR_SET_NO_NEW_PRIVS as u32)]),
    (
        SYS_ioctl,
        &[
            equal(1, FIONREAD as u32),
            equal(1, FIONBIO as u32),
            equal(1, FIOCLEX as u32),
            equal(1, TCGETS as u32),
            equal(1, TCGETS2 as u32),
            equal(1, TIOCGWINSZ as u32),
            equal(1, PAGEMAP_SCAN),
        ],
    ),
];

/// A thread of this process, in the same namespaces.
const THREAD: Check = {
    let namespaces =
        CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
    Check { argument: 0, mask: (CLONE_THREAD | namespaces) as u32, value: CLONE_THREAD as u32 }
};

/// `_IOWR('f', 16, struct pm_scan_arg)`, by which the engine finds dirty pages of instances that it reuses.
const PAGEMAP_SCAN: u32 = 0xc060_6610;

/// Refused with ENOSYS: libraries probe these and then do with what they have. `clone3` hides its flags from filters.
pub(super) const ABSENT: &[i64] = &[
    SYS_clone3,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_futex_waitv,
    FUTEX2_WAIT,
    FUTEX2_WAKE,
    FUTEX2_REQUEUE,
    CACHESTAT,
    FCHMODAT2,
    MSEAL,
    MAP_SHADOW_STACK,
];

// New calls have one number everywhere; the C bindings lack these.
const CACHESTAT: i64 = 451;
const MAP_SHADOW_STACK: i64 = 453;
const FUTEX2_WAKE: i64 = 454;
const FUTEX2_WAIT: i64 = 455;
const FUTEX2_REQUEUE: i64 = 456;
const FCHMODAT2: i64 = 452;
const MSEAL: i64 = 462;
