//! What a zygote and a container refuse, without harm to anyone else.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{SendFlags, send};
use samara_shim::plan::{Fd, Namespace};
use samara_shim::zygote::protocol::{Fork, MAX_FDS, PidNamespace};

use crate::container::Container;
use crate::guests;
use crate::zygote::{Zygote, closed};

crate::trials![
    nonsense_ends_its_connection_and_nothing_else,
    a_fork_without_its_files_ends_its_connection,
    a_pid_namespace_that_is_none_is_refused,
    as_many_files_as_a_message_holds_are_carried,
    a_plan_that_is_none_is_refused_by_name,
    a_plan_of_another_version_is_named,
    files_the_plan_names_and_did_not_bring_are_named,
    code_that_is_none_is_refused,
    namespaces_that_do_not_fit_the_root_are_refused,
    a_bundle_that_cannot_be_written_means_no_process,
];

fn nonsense_ends_its_connection_and_nothing_else() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP));
    let header = |magic: &[u8; 4], version: u16, kind: u16| {
        let mut bytes = magic.to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.resize(32, 0);
        bytes
    };
    let mut flags = header(b"SmZy", 1, 2);
    flags[24] = 0xff;
    let nonsense: Vec<Vec<u8>> = vec![
        vec![0],
        vec![0xff; 32],
        vec![0; 33],
        vec![0; 60_000],
        header(b"SmZy", 2, 1),
        header(b"SmZx", 1, 1),
        header(b"SmZy", 1, 77),
        header(b"SmZy", 1, 101),
        flags,
    ];
    for bytes in nonsense {
        send(zygote.connection(), &bytes, SendFlags::empty()).unwrap();
        assert!(closed(&zygote.take_connection()), "{} bytes", bytes.len());
        assert_eq!(zygote.reconnect(), 1);
    }
    assert!(running.lives());
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7);
}

fn a_fork_without_its_files_ends_its_connection() {
    let mut zygote = Zygote::start();
    let mut fork = vec![0_u8; 32];
    fork[..8].copy_from_slice(b"SmZy\x01\0\x01\0");
    send(zygote.connection(), &fork, SendFlags::empty()).unwrap();
    assert!(closed(&zygote.take_connection()));
    zygote.reconnect();
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7);
}

fn null() -> OwnedFd {
    std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

fn a_pid_namespace_that_is_none_is_refused() {
    let mut zygote = Zygote::start();
    let error = zygote.refused(Container::new(guests::HELLO).pid_namespace(PidNamespace::Join(null())));
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7);
}

fn as_many_files_as_a_message_holds_are_carried() {
    let mut zygote = Zygote::start();
    let mut container = Container::new(guests::SEVEN);
    while container.files.len() + 4 < MAX_FDS {
        container.add(null());
    }
    assert_eq!(zygote.code_of(container), 7);
}

/// Forks with any file in the place of the plan.
fn refusal(zygote: &mut Zygote, plan: &OwnedFd) -> String {
    let bundle = zygote.bundle();
    let directory = std::fs::File::open(bundle.dir()).unwrap();
    let report = samara_shim::plan::Report::file().unwrap();
    let (status, writer) = std::io::pipe().unwrap();
    let fork = Fork {
        request: 0,
        pid_namespace: PidNamespace::New,
        bundle: directory.as_fd(),
        report: report.as_fd(),
        status: writer.as_fd(),
        plan: plan.as_fd(),
        oom_counter: None,
        files: Vec::new(),
    };
    zygote.request(fork).unwrap();
    drop(writer);
    std::io::read_to_string(status).unwrap()
}

fn file(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    file.into()
}

fn a_plan_that_is_none_is_refused_by_name() {
    let mut zygote = Zygote::start();
    for nonsense in [&b""[..], b"{", b"[]", b"null", b"\0\0\0", br#"{"version": 1}"#, br#"{"version": "1"}"#] {
        let message = refusal(&mut zygote, &file(nonsense));
        assert!(message.starts_with("the plan is not of this version's form: "), "{message}");
    }
    let huge = tempfile::tempfile().unwrap();
    huge.set_len(1 << 40).unwrap();
    assert_eq!(refusal(&mut zygote, &huge.into()), "the plan is larger than 16777216 bytes");
    let (_reader, writer) = std::io::pipe().unwrap();
    assert!(refusal(&mut zygote, &writer.into()).starts_with("read the plan: "));
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7);
}

fn a_plan_of_another_version_is_named() {
    let mut zygote = Zygote::start();
    let message = refusal(&mut zygote, &file(br#"{"version": 99, "and": "more"}"#));
    assert_eq!(message, "the plan is of version 99, this is 1");
}

fn files_the_plan_names_and_did_not_bring_are_named() {
    let mut zygote = Zygote::start();
    let (_, message) = zygote.try_fork(Container::new(guests::HELLO).with(|plan| plan.code = Fd(9)));
    assert_eq!(message, "the code is file 9 of the plan, which has 3");
    let twice = Container::new(guests::HELLO).with(|plan| plan.control = Some(plan.code));
    assert!(zygote.try_fork(twice).1.contains("used for something else too"));
}

fn code_that_is_none_is_refused() {
    let mut zygote = Zygote::start();
    for nonsense in [&b""[..], b"\x7fELF", b"\0asm\x01\0\0\0", &[0xff; 4096]] {
        let (running, message) = zygote.try_fork(Container::of(file(nonsense)));
        assert!(message.starts_with("load compiled code"), "{message}");
        assert_eq!(zygote.exited(&running).0.exit_code, 128);
    }
}

fn namespaces_that_do_not_fit_the_root_are_refused() {
    let mut zygote = Zygote::start();
    let expected =
        "a root file system needs a new mount namespace, and a process without one has to join a container's";
    let hosts = Container::new(guests::HELLO).with(|plan| plan.namespaces.mount = Namespace::Host);
    assert_eq!(zygote.try_fork(hosts).1, expected);
    let rootless = Container::new(guests::HELLO).with(|plan| plan.filesystem = None);
    assert_eq!(zygote.try_fork(rootless).1, expected, "the zygote's own root is for nobody");
}

fn a_bundle_that_cannot_be_written_means_no_process() {
    let mut zygote = Zygote::start();
    let error = zygote.refused_in(Container::new(guests::SPIN), &null());
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7);
    crate::zygote::until("it is killed", || (zygote.reconnect() == 0).then_some(()));
}
