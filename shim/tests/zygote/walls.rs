//! What even Samara's own code cannot do any more once a guest would run.

use std::path::Path;

use crate::container::{Container, bind, write};
use crate::zygote::Zygote;

crate::trials![
    dangerous_calls_are_refused_and_needed_ones_are_not,
    threads_can_still_be_started,
    the_specs_profile_is_stacked,
    a_profile_need_not_allow_what_applying_it_takes,
    a_profile_with_what_is_not_supported_is_refused,
    device_commands_are_refused_by_landlock,
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

/// 0 without Landlock.
#[expect(unsafe_code, reason = "no crate tells the version alone")]
fn landlock_version() -> i64 {
    const VERSION: u32 = 1;
    // SAFETY: asked for its version, the call takes no memory.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    version.max(0)
}
