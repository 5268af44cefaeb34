//! Namespaces, and a hundred containers at once.

use std::path::Path;

use rustix::process::Signal;
use samara_shim::plan::Namespace;
use samara_shim::zygote::protocol::PidNamespace;

use crate::container::Container;
use crate::guests;
use crate::zygote::{Running, Zygote};

crate::trials![
    every_namespace_is_the_containers_own,
    what_the_plan_leaves_is_the_zygotes,
    two_zygotes_children_may_share_a_network_namespace,
    a_hostname_is_the_containers_alone,
    a_domain_name_and_settings_of_its_namespaces_are_the_containers_alone,
    a_setting_that_is_not_there_is_named,
    a_hundred_containers_run_at_once,
    a_zygotes_own_mounts_are_two,
];

fn every_namespace_is_the_containers_own() {
    let mut zygote = Zygote::start();
    let container = Container::new(guests::SLEEP).with(|plan| plan.namespaces.cgroup = Namespace::New);
    let (one, two) = (zygote.fork(container), zygote.fork(Container::new(guests::SLEEP)));
    for namespace in ["mnt", "pid", "uts", "ipc"] {
        let host = std::fs::read_link(Path::new("/proc/self/ns").join(namespace)).unwrap();
        assert_ne!(one.namespace(namespace), host, "{namespace}");
        assert_ne!(one.namespace(namespace), two.namespace(namespace), "{namespace}");
    }
    assert_ne!(one.namespace("cgroup"), two.namespace("cgroup"));
    assert_eq!(one.status("NSpid").split_whitespace().last(), Some("1"));
}

fn what_the_plan_leaves_is_the_zygotes() {
    let mut zygote = Zygote::start();
    let container = Container::new(guests::SLEEP)
        .with(|plan| {
            plan.namespaces.uts = Namespace::Host;
            plan.namespaces.ipc = Namespace::Host;
            plan.hostname = None;
        })
        .pid_namespace(PidNamespace::Host);
    let running = zygote.fork(container);
    for namespace in ["pid", "uts", "ipc", "net", "user"] {
        let host = std::fs::read_link(Path::new("/proc/self/ns").join(namespace)).unwrap();
        assert_eq!(running.namespace(namespace), host, "{namespace}");
    }
    let after = zygote.fork(Container::new(guests::SLEEP));
    assert_eq!(after.status("NSpid").split_whitespace().last(), Some("1"), "the next has its own again");
}

fn two_zygotes_children_may_share_a_network_namespace() {
    let mut zygote = Zygote::start();
    // A thread of ours makes a namespace and holds it open; the test program stays where it is.
    let namespace = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        std::fs::File::open("/proc/thread-self/ns/net").unwrap()
    });
    let namespace = namespace.join().unwrap();
    let mut join = || {
        let mut container = Container::new(guests::SLEEP);
        container.plan.namespaces.network = Some(container.add(namespace.try_clone().unwrap()));
        zygote.fork(container)
    };
    let (one, two) = (join(), join());
    assert_eq!(one.namespace("net"), two.namespace("net"));
    assert_ne!(one.namespace("net"), std::fs::read_link("/proc/self/ns/net").unwrap());
}

fn a_hostname_is_the_containers_alone() {
    let mut zygote = Zygote::start();
    let before = rustix::system::uname().nodename().to_owned();
    let running = zygote.fork(Container::new(guests::SLEEP).with(|plan| plan.hostname = Some("web-0".into())));
    let uts = std::fs::File::open(running.proc("ns/uts")).unwrap();
    let inside = std::thread::spawn(move || {
        nix::sched::setns(uts, nix::sched::CloneFlags::CLONE_NEWUTS).unwrap();
        rustix::system::uname().nodename().to_owned()
    });
    assert_eq!(inside.join().unwrap().to_bytes(), b"web-0");
    assert_eq!(rustix::system::uname().nodename(), before.as_c_str());
    let shared = Container::new(guests::HELLO).with(|plan| plan.namespaces.uts = Namespace::Host);
    assert_eq!(zygote.try_fork(shared).1, "a host name needs a new uts namespace");
}

/// What a process in a running container's namespaces would see.
fn seen_inside<T: Send + 'static>(
    running: &Running,
    namespaces: [&'static str; 2],
    look: impl FnOnce() -> T + Send + 'static,
) -> T {
    let files = namespaces.map(|name| std::fs::File::open(running.proc(&format!("ns/{name}"))).unwrap());
    let inside = std::thread::spawn(move || {
        for file in files {
            nix::sched::setns(file, nix::sched::CloneFlags::empty()).unwrap();
        }
        look()
    });
    inside.join().unwrap()
}

fn a_domain_name_and_settings_of_its_namespaces_are_the_containers_alone() {
    const RMID: &str = "/proc/sys/kernel/shm_rmid_forced";
    let mut zygote = Zygote::start();
    let before = std::fs::read_to_string(RMID).unwrap();
    let other = if before.trim() == "1" { "0" } else { "1" };
    let running = zygote.fork(Container::new(guests::SLEEP).with(|plan| {
        plan.domainname = Some("cluster.local".into());
        plan.sysctls = [("kernel/shm_rmid_forced".to_owned(), other.to_owned())].into();
    }));
    let (domain, rmid) = seen_inside(&running, ["uts", "ipc"], || {
        (rustix::system::uname().domainname().to_owned(), std::fs::read_to_string(RMID).unwrap())
    });
    assert_eq!((domain.to_bytes(), rmid.trim()), (b"cluster.local".as_slice(), other));
    assert_eq!(std::fs::read_to_string(RMID).unwrap(), before, "the host's is as it was");
    assert_ne!(rustix::system::uname().domainname().to_bytes(), b"cluster.local");
}

fn a_setting_that_is_not_there_is_named() {
    let mut zygote = Zygote::start();
    let container = |path: &str, value: &str| {
        let sysctls = [(path.to_owned(), value.to_owned())];
        Container::new(guests::HELLO).with(|plan| plan.sysctls = sysctls.into())
    };
    let said = zygote.try_fork(container("kernel/no_such_setting", "1")).1;
    assert!(said.starts_with("set kernel/no_such_setting to \"1\": No such file"), "{said}");
    let said = zygote.try_fork(container("kernel/shm_rmid_forced", "many")).1;
    assert!(said.starts_with("set kernel/shm_rmid_forced to \"many\": Invalid argument"), "{said}");
}

fn a_hundred_containers_run_at_once() {
    let mut zygote = Zygote::start();
    let running: Vec<_> = (0..100).map(|_| zygote.fork(Container::new(guests::SLEEP).controlled())).collect();
    assert!(running.iter().all(|running| running.lives()));
    assert_eq!(zygote.reconnect(), 100);
    for running in &running {
        running.kill(Signal::KILL);
    }
    for running in &running {
        assert_eq!(zygote.exited(running).0.exit_code, 137);
    }
    assert_eq!(zygote.reconnect(), 0);
}

fn a_zygotes_own_mounts_are_two() {
    let zygote = Zygote::start();
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", zygote.pid())).unwrap();
    let places: Vec<&str> = mounts.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    assert_eq!(places, ["/", "/proc"]);
}
