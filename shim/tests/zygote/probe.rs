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
            "device" => device(),
            "signal" => signal(),
            "abstract" => abstract_socket(&plan.guest.args[1]),
            "mkdir" => std::fs::create_dir("/made").map_or_else(|error| error.to_string(), |()| "made".into()),
            other => format!("no probe {other}"),
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
        let _ = write!(said, "{name}={}, ", call(*number, *arguments));
    }
    said
}

#[expect(unsafe_code, reason = "system calls that no crate would make for us, with arguments that touch no memory")]
fn call(number: i64, [a, b, c, d]: [i64; 4]) -> i64 {
    // SAFETY: every pointer among the arguments is null or an address that the call refuses; a new mapping is kept.
    match unsafe { libc::syscall(number, a, b, c, d, -1_i64, 0_i64) } {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        _ => 0,
    }
}

/// A device's command: what Landlock refuses where the call filter lets it pass.
fn device() -> String {
    let opened = std::fs::File::open("/device").unwrap();
    match rustix::termios::tcgetwinsize(&opened) {
        Ok(_) => "a terminal".into(),
        Err(errno) => errno.raw_os_error().to_string(),
    }
}

/// A signal to itself and one to process 1 of its namespace.
fn signal() -> String {
    let own = i64::from(std::process::id());
    let send = |process: i64| call(libc::SYS_tgkill, [process, process, libc::SIGURG.into(), 0]);
    format!("own={}, other={}", send(own), send(1))
}

/// A datagram to an abstract socket: a pair can be had where a single socket cannot.
fn abstract_socket(name: &str) -> String {
    use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socketpair};
    let (socket, _other) =
        socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).expect("a pair");
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a name");
    match sendto(&socket, b"out", SendFlags::empty(), &address) {
        Ok(_) => "sent".into(),
        Err(errno) => errno.raw_os_error().to_string(),
    }
}
