//! What even Samara's own code cannot do any more once a guest would run.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::container::{Container, bind, write};
use crate::guests;
use crate::zygote::{Zygote, hello};

crate::trials![
    dangerous_calls_are_refused_and_needed_ones_are_not,
    threads_can_still_be_started,
    the_specs_profile_is_stacked,
    a_profile_need_not_allow_what_applying_it_takes,
    a_profile_with_what_is_not_supported_is_refused,
    device_commands_are_refused_by_landlock,
    signals_to_others_of_the_same_namespace_and_user_are_refused_by_landlock,
    abstract_sockets_of_others_are_refused_by_landlock,
    a_kernel_without_all_of_landlock_is_warned_of,
];

fn found(container: Container) -> String {
    let mut zygote = Zygote::probing();
    let running = zygote.fork(container);
    let (exited, record) = zygote.exited(&running);
    assert_eq!(exited.exit_code, 0, "{record:?}");
    record.message.unwrap()
}

fn dangerous_calls_are_refused_and_needed_ones_are_not() {
    let found = found(Container::probe("calls"));
    const NEEDED: [&str; 3] = ["socket inet", "mmap rw", "getpid"];
    const ABSENT: [&str; 2] = ["clone3", "io_uring_setup"];
    for (name, result) in found.split_terminator(", ").map(|call| call.split_once('=').unwrap()) {
        let expected = match name {
            name if NEEDED.contains(&name) => 0,
            name if ABSENT.contains(&name) => -libc::ENOSYS,
            _ => -libc::EPERM,
        };
        assert_eq!(result, expected.to_string(), "{name}");
    }
    assert!(found.contains("execve=-1"), "{found}");
}

fn threads_can_still_be_started() {
    assert_eq!(found(Container::probe("thread")), "None");
}

fn profile(json: serde_json::Value, probe: &str) -> Container {
    Container::probe(probe).identity(|identity| identity.seccomp = Some(serde_json::from_value(json).unwrap()))
}

fn the_specs_profile_is_stacked() {
    assert_eq!(found(Container::probe("mkdir")), "made");
    let deny = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV},
            {"names": ["execve"], "action": "SCMP_ACT_ALLOW"},
        ],
    });
    assert_eq!(found(profile(deny.clone(), "mkdir")), std::io::Error::from_raw_os_error(libc::EXDEV).to_string());
    assert!(found(profile(deny, "calls")).contains("execve=-1"), "what the profile allows is not allowed by it alone");
}

fn a_profile_need_not_allow_what_applying_it_takes() {
    let allow = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{
            "names": ["mkdir", "write", "pwrite64", "exit_group", "mmap", "munmap", "brk", "futex", "close",
                      "sigaltstack", "rt_sigprocmask", "madvise"],
            "action": "SCMP_ACT_ALLOW",
        }],
    });
    assert_eq!(found(profile(allow, "mkdir")), "made");
}

fn a_profile_with_what_is_not_supported_is_refused() {
    let mut zygote = Zygote::probing();
    let notify = serde_json::json!({"defaultAction": "SCMP_ACT_NOTIFY"});
    assert_eq!(zygote.try_fork(profile(notify, "mkdir")).1, "seccomp action SCMP_ACT_NOTIFY is not supported");
}

fn device_commands_are_refused_by_landlock() {
    let container = Container::probe("device").mount(bind(Path::new("/dev/null")), "/device", false);
    write(container.root(), "other", "");
    let expected = if landlock_version() >= 5 { libc::EACCES } else { libc::ENOTTY };
    assert_eq!(found(container), expected.to_string());
}

/// The version that has scopes.
const SCOPES: i64 = 6;

fn signals_to_others_of_the_same_namespace_and_user_are_refused_by_landlock() {
    let mut zygote = Zygote::probing();
    let first = zygote.fork(Container::probe("secret"));
    let exec = Container::exec(guests::HELLO, &first).with(|plan| plan.guest.args = vec!["signal".into()]);
    let exec = zygote.fork(exec);
    let (_, record) = zygote.exited(&exec);
    let other = if landlock_version() >= SCOPES { -libc::EPERM } else { 0 };
    assert_eq!(record.message, Some(format!("own=0, other={other}")));
    assert!(first.lives());
}

fn abstract_sockets_of_others_are_refused_by_landlock() {
    let name = format!("samara-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let outside = UnixDatagram::bind_addr(&address).unwrap();
    outside.set_nonblocking(true).unwrap();
    let container = Container::probe("abstract").with(|plan| plan.guest.args.push(name));
    let expected = if landlock_version() >= SCOPES { libc::EPERM.to_string() } else { "sent".into() };
    assert_eq!(found(container), expected);
    assert_eq!(outside.recv(&mut [0; 8]).is_ok(), landlock_version() < SCOPES);
}

fn a_kernel_without_all_of_landlock_is_warned_of() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP).controlled());
    let warnings = hello(&running).warnings;
    let warned = warnings.iter().any(|warning| warning.contains("Landlock"));
    assert_eq!(warned, landlock_version() < SCOPES, "{warnings:?}");
}

/// 0 without Landlock.
#[expect(unsafe_code, reason = "no crate tells the version alone")]
fn landlock_version() -> i64 {
    const VERSION: u32 = 1;
    // SAFETY: asked for its version, the call takes no memory.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    version.max(0)
}
