//! Further processes in a running container.

use std::io::Read as _;

use crate::container::{Container, mkdir, write};
use crate::guests;
use crate::zygote::Zygote;

crate::trials![
    an_exec_shares_namespaces_and_root_with_its_container,
    an_exec_into_a_container_that_has_ended_is_refused,
];

fn an_exec_shares_namespaces_and_root_with_its_container() {
    let mut zygote = Zygote::start();
    let container = Container::new(guests::SLEEP);
    mkdir(container.root(), "data");
    write(container.root(), "data/file", "of the container");
    let first = zygote.fork(container);

    let sleeper = zygote.fork(Container::exec(guests::SLEEP, &first));
    for namespace in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        assert_eq!(sleeper.namespace(namespace), first.namespace(namespace));
    }
    assert_eq!(sleeper.status("NSpid").split_whitespace().count(), 2);

    let (exec, mut stdout) = Container::exec(guests::READ, &first).stdout();
    let exec = zygote.fork(exec);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), zygote.exited(&exec).0.exit_code), ("of the container", 0));

    first.kill(rustix::process::Signal::KILL);
    assert_eq!(zygote.exited(&first).0.exit_code, 137);
    assert_eq!(zygote.exited(&sleeper).0.exit_code, 137, "process 1 takes its namespace with it");
}

fn an_exec_into_a_container_that_has_ended_is_refused() {
    let mut zygote = Zygote::start();
    let first = zygote.fork(Container::new(guests::SLEEP));
    let exec = Container::exec(guests::SLEEP, &first);
    first.kill(rustix::process::Signal::KILL);
    zygote.exited(&first);
    let error = zygote.refused(exec);
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM), "as the kernel says it");
    assert_eq!(zygote.code_of(Container::new(guests::HELLO)), 0, "the zygote is where it was");
}
