//! A zygote whose children, all walls up, try what a guest never should, and report what they were told.
//!
//! The name of the probe is the guest's first argument; what it found is the message of the exit record.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use samara_runtime::Exit;
use samara_shim::plan::ContainerPlan;
use samara_shim::zygote::Warm;
use samara_shim::zygote::protocol::Fork;

pub(crate) const NAME: &str = "samara-probing-zygote";

pub(crate) fn zygote() -> ExitCode {
    // So that a child that does not reseed would go on where this left off.
    let _ = rand::random::<u64>();
    match samara_shim::zygote::run(child) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn child(warm: &Warm, fork: Fork<OwnedFd>) -> ! {
    let plan = ContainerPlan::read(&fork.plan).unwrap();
    samara_shim::container::run(warm, fork, move |_ready| {
        let message = match plan.guest.args[0].as_str() {
            "calls" => calls(),
            "random" => format!("{:032x}", rand::random::<u128>()),
            "thread" => thread(),
            "panic" => panic!("a mistake of ours"),
            "root" => names("/"),
            "secret" => return hold(&plan),
            call => one(call),
        };
        Exit { code: 0, oom: false, message: Some(message) }
    })
}

/// Keeps the plan's environment in memory for as long as it lives.
fn hold(plan: &ContainerPlan) -> Exit {
    let held = plan.guest.env.clone();
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
        std::hint::black_box(&held);
    }
}

fn names(path: &str) -> String {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.join(" ")
}

fn thread() -> String {
    let thread = std::thread::spawn(|| std::thread::current().name().map(str::to_owned));
    format!("{:?}", thread.join().unwrap())
}

/// System calls and the arguments that make each of them dangerous (or not: the last ones are needed).
const CALLS: &[(&str, i64, [i64; 4])] = &[
    ("execve", libc::SYS_execve, [0, 0, 0, 0]),
    ("execveat", libc::SYS_execveat, [-1, 0, 0, 0]),
    ("fork", libc::SYS_fork, [0; 4]),
    ("vfork", libc::SYS_vfork, [0; 4]),
    ("clone", libc::SYS_clone, [libc::SIGCHLD as i64, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0; 4]),
    ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as i64, 0, 0, 0]),
    ("setns", libc::SYS_setns, [0; 4]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_TRACEME as i64, 0, 0, 0]),
    ("mmap x", libc::SYS_mmap, [0, 4096, (libc::PROT_READ | libc::PROT_EXEC) as i64, 0x22]),
    ("mprotect x", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC as i64, 0]),
    ("mount", libc::SYS_mount, [0; 4]),
    ("umount2", libc::SYS_umount2, [0; 4]),
    ("chroot", libc::SYS_chroot, [0; 4]),
    ("open_tree", libc::SYS_open_tree, [-100, 0, 1, 0]),
    ("keyctl", libc::SYS_keyctl, [0; 4]),
    ("bpf", libc::SYS_bpf, [0; 4]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0]),
    ("userfaultfd", libc::SYS_userfaultfd, [0; 4]),
    ("perf_event_open", libc::SYS_perf_event_open, [0; 4]),
    ("kill", libc::SYS_kill, [1, 0, 0, 0]),
    ("setuid", libc::SYS_setuid, [0; 4]),
    ("personality", libc::SYS_personality, [0; 4]),
    ("socket packet", libc::SYS_socket, [libc::AF_PACKET as i64, libc::SOCK_RAW as i64, 0, 0]),
    ("socket netlink", libc::SYS_socket, [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 0, 0]),
    ("prlimit set", libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as i64, 1, 0]),
    ("ioctl TIOCSTI", libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0, 0]),
    ("socket inet", libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("mmap rw", libc::SYS_mmap, [0, 4096, (libc::PROT_READ | libc::PROT_WRITE) as i64, 0x22]),
    ("getpid", libc::SYS_getpid, [0; 4]),
];

fn calls() -> String {
    let mut said = String::new();
    for (name, number, arguments) in CALLS {
        let _ = write!(said, "{name}={} ", call(*number, *arguments));
    }
    said
}

fn one(name: &str) -> String {
    match name {
        "mkdir" => std::fs::create_dir("/made").map_or_else(|error| error.to_string(), |()| "made".into()),
        "mknod" => call_path(libc::SYS_mknod, c"/device", i64::from(libc::S_IFCHR | 0o600), 0x103),
        "abstract" => {
            let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
                b"samara-test",
            );
            let connected = address.and_then(|address| std::os::unix::net::UnixStream::connect_addr(&address));
            connected.map_or_else(|error| error.to_string(), |_| "connected".into())
        }
        other => format!("no probe {other}"),
    }
}

#[expect(unsafe_code, reason = "system calls that no crate would make for us, with arguments that touch no memory")]
fn call(number: i64, [a, b, c, d]: [i64; 4]) -> i64 {
    // SAFETY: every pointer among the arguments is null or an address that the call refuses; a new mapping is kept.
    match unsafe { libc::syscall(number, a, b, c, d, -1_i64, 0_i64) } {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        _ => 0,
    }
}

#[expect(unsafe_code, reason = "as above, with a path")]
fn call_path(number: i64, path: &std::ffi::CStr, b: i64, c: i64) -> String {
    // SAFETY: the path ends with its NUL and lives until after the call.
    match unsafe { libc::syscall(number, path.as_ptr(), b, c) } {
        -1 => std::io::Error::last_os_error().to_string(),
        _ => "made".into(),
    }
}
