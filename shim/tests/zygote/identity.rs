//! Who a container is to the kernel, as `/proc/<pid>/status` tells it.

use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimitBuilder, PosixRlimitType};

use crate::container::{Container, mkdir, write};
use crate::guests;
use crate::zygote::Zygote;

crate::trials![
    without_capabilities_root_has_none,
    root_has_exactly_the_specs_capabilities,
    another_user_has_its_ids_and_no_capabilities,
    privileges_cannot_be_regained_and_memory_is_not_dumped,
    a_score_that_makes_it_a_likelier_victim_is_set_and_one_that_needs_a_privilege_is_told,
    limits_are_set,
    an_apparmor_profile_is_applied_or_refused_by_name,
    an_selinux_label_where_there_is_no_selinux_is_refused_by_name,
];

fn capabilities(names: &[Capability]) -> Option<LinuxCapabilities> {
    let set = || names.iter().copied().collect::<std::collections::HashSet<_>>();
    let builder = LinuxCapabilitiesBuilder::default().bounding(set()).permitted(set()).effective(set());
    Some(
        builder
            .inheritable(std::collections::HashSet::new())
            .ambient(std::collections::HashSet::new())
            .build()
            .unwrap(),
    )
}

fn without_capabilities_root_has_none() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(running.status(set), "0000000000000000", "{set}");
    }
}

fn root_has_exactly_the_specs_capabilities() {
    let mut zygote = Zygote::start();
    let names = [Capability::Chown, Capability::NetBindService];
    let running = zygote.fork(Container::new(guests::SLEEP).identity(|identity| {
        identity.capabilities = capabilities(&names);
    }));
    let both = format!("{:016x}", (1 << 0) | (1 << 10));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(running.status(set), both, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(running.status(set), "0000000000000000", "{set}");
    }
}

fn another_user_has_its_ids_and_no_capabilities() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP).identity(|identity| {
        identity.uid = 1000;
        identity.gid = 2000;
        identity.additional_gids = vec![3000, 4000];
        identity.umask = Some(0o077);
        identity.capabilities = capabilities(&[Capability::DacOverride]);
    }));
    assert_eq!(running.status("Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(running.status("Gid"), "2000\t2000\t2000\t2000");
    assert_eq!(running.status("Groups"), "3000 4000");
    assert_eq!(running.status("Umask"), "0077");
    assert_eq!(running.status("CapEff"), "0000000000000000");
    assert_eq!(running.status("CapBnd"), format!("{:016x}", 1 << 1));
}

fn privileges_cannot_be_regained_and_memory_is_not_dumped() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP).identity(|identity| identity.uid = 1000));
    assert_eq!(running.status("NoNewPrivs"), "1");
    assert_eq!(running.status("Seccomp"), "2");
    // Files of a process that is not dumpable belong to root, whoever it runs as.
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(running.proc("mem")).unwrap().uid(), 0);
}

fn a_score_that_makes_it_a_likelier_victim_is_set_and_one_that_needs_a_privilege_is_told() {
    let mut zygote = Zygote::start();
    let score = |value| Container::new(guests::SLEEP).identity(|identity| identity.oom_score_adj = Some(value));
    let likelier = zygote.fork(score(900));
    assert_eq!(std::fs::read_to_string(likelier.proc("oom_score_adj")).unwrap(), "900\n");
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    if own == -1000 {
        return;
    }
    let safer = zygote.fork(score(own - 1).controlled());
    let warnings = crate::zygote::hello(&safer).warnings;
    let warnings: Vec<_> = warnings.iter().filter(|warning| !warning.contains("Landlock")).collect();
    let now = std::fs::read_to_string(safer.proc("oom_score_adj")).unwrap();
    match warnings.as_slice() {
        [] => assert_eq!(now, format!("{}\n", own - 1)),
        [warning] => {
            assert!(warning.contains("oom_score_adj") && warning.contains("CAP_SYS_RESOURCE"), "{warning}");
            assert_eq!(now, format!("{own}\n"));
        }
        more => panic!("{more:?}"),
    }
}

fn limits_are_set() {
    let mut zygote = Zygote::start();
    let limit = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(123_u64).hard(234_u64).build();
    let running =
        zygote.fork(Container::new(guests::SLEEP).identity(|identity| identity.rlimits = vec![limit.unwrap()]));
    let limits = std::fs::read_to_string(running.proc("limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["Max", "open", "files", "123", "234", "files"]);
}

/// The profile which the machine with pure cgroup v2 loads from its file; elsewhere no test loads any.
const LOADED: &str = "samara-test";
const FILE: &str = "/apparmor";

fn an_apparmor_profile_is_applied_or_refused_by_name() {
    let mut zygote = Zygote::start();
    let apparmor = |guest: &str, profile: &str| {
        Container::new(guest).identity(|identity| identity.apparmor_profile = Some(profile.to_owned()))
    };
    if std::path::Path::new(FILE).exists() {
        let running = zygote.fork(apparmor(guests::SLEEP, LOADED));
        let current = std::fs::read_to_string(running.proc("attr/current")).unwrap();
        assert_eq!(current.trim_end(), format!("{LOADED} (enforce)"));
        // And it is the kernel that keeps to it.
        for (profile, code) in [(LOADED, EACCES), ("unconfined", 0)] {
            let container = apparmor(guests::READ, profile);
            mkdir(container.root(), "data");
            write(container.root(), "data/file", "not for everybody");
            assert_eq!(zygote.code_of(container), code, "{profile}");
        }
    }
    let (running, message) = zygote.try_fork(apparmor(guests::HELLO, "k8s-web"));
    assert!(message.starts_with(r#"AppArmor profile "k8s-web" cannot be applied on this node"#), "{message}");
    let (exited, record) = zygote.exited(&running);
    assert_eq!((exited.exit_code, record.message.as_ref()), (128, Some(&message)));
    assert_eq!(zygote.code_of(apparmor(guests::HELLO, "unconfined")), 0, "which it is");
}

/// As preview 1 counts.
const EACCES: u8 = 2;

fn an_selinux_label_where_there_is_no_selinux_is_refused_by_name() {
    let mut zygote = Zygote::start();
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let label = "system_u:system_r:container_t:s0:c1,c2";
        let container = Container::new(guests::HELLO).identity(|identity| identity.selinux_label = Some(label.into()));
        let (_, message) = zygote.try_fork(container);
        assert!(message.contains(label), "{message}");
    }
}
