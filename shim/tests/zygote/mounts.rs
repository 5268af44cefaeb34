//! The container's file system.

use std::io::Read as _;
use std::path::Path;

use crate::container::{Container, bind, mkdir, tmpfs, write};
use crate::guests;
use crate::zygote::Zygote;

crate::trials![
    no_file_of_the_host_is_visible,
    a_container_sees_its_own_mounts_only,
    a_volume_is_mounted_where_the_plan_says,
    a_single_file_is_mounted_over_one_that_was_missing,
    links_in_the_image_do_not_lead_a_mount_outside,
    a_read_only_root_has_a_writable_volume_in_it,
    mounts_are_private,
    a_volume_on_the_root_itself_is_refused,
];

fn no_file_of_the_host_is_visible() {
    let mut zygote = Zygote::probing();
    let container = Container::probe("root");
    write(container.root(), "only", "");
    let running = zygote.fork(container);
    assert_eq!(zygote.exited(&running).1.message.as_deref(), Some("only"));
}

fn a_container_sees_its_own_mounts_only() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP).mount(tmpfs(), "/data", true));
    let mounts = std::fs::read_to_string(running.proc("mountinfo")).unwrap();
    let places: Vec<&str> = mounts.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    assert_eq!(places, ["/", "/data"], "and no /proc");
}

fn text_of(container: Container) -> (String, u8) {
    let mut zygote = Zygote::start();
    let (container, mut stdout) = container.stdout();
    let running = zygote.fork(container);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    (text, zygote.exited(&running).0.exit_code)
}

fn a_volume_is_mounted_where_the_plan_says() {
    let volume = tmpfs();
    write(&volume, "file", "of the volume");
    let container = Container::new(guests::READ).mount(volume, "/data", true);
    assert_eq!(text_of(container), ("of the volume".into(), 0));
}

fn a_single_file_is_mounted_over_one_that_was_missing() {
    let host = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(host.path(), "of the host's file").unwrap();
    let container = Container::new(guests::READ).mount(bind(host.path()), "/data/file", false);
    assert_eq!(text_of(container), ("of the host's file".into(), 0));
}

fn links_in_the_image_do_not_lead_a_mount_outside() {
    let volume = tmpfs();
    write(&volume, "file", "inside");
    let container = Container::new(guests::READ);
    // The guest's `/data` is where a link out of the image leads back to.
    rustix::fs::symlinkat("../../../data", container.root(), "way-out").unwrap();
    let container = container.mount(volume, "/way-out", true);
    assert_eq!(text_of(container), ("inside".into(), 0));
    assert!(!Path::new("/data/file").exists());
}

fn a_read_only_root_has_a_writable_volume_in_it() {
    let mut zygote = Zygote::start();
    let read_only = || Container::new(guests::CREATE).with(|plan| plan.filesystem.as_mut().unwrap().read_only = true);
    assert_ne!(zygote.code_of(read_only()), 0);
    assert_eq!(zygote.code_of(Container::new(guests::CREATE)), 0);
    let running = zygote.fork(
        Container::new(guests::SLEEP)
            .mount(tmpfs(), "/data", true)
            .with(|plan| plan.filesystem.as_mut().unwrap().read_only = true),
    );
    let mounts = std::fs::read_to_string(running.proc("mountinfo")).unwrap();
    let options: Vec<&str> = mounts.lines().map(|line| line.split(' ').nth(5).unwrap()).collect();
    assert!(options[0].starts_with("ro") && options[1].starts_with("rw"), "{options:?}");
}

fn mounts_are_private() {
    let mut zygote = Zygote::start();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let directory = tempfile::tempdir().unwrap();
    mkdir(std::fs::File::open(directory.path()).unwrap(), "data");
    // A root that is a directory of the host's, on a file system that may be shared.
    let mut container = Container::new(guests::SLEEP).mount(tmpfs(), "/data", true);
    container.files[1] = bind(directory.path());
    let running = zygote.fork(container);
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(), before);
    let mounts = std::fs::read_to_string(running.proc("mountinfo")).unwrap();
    for line in mounts.lines() {
        let optional = line.split(' ').nth(6).unwrap();
        assert!(!optional.starts_with("shared"), "{line}");
    }
}

fn a_volume_on_the_root_itself_is_refused() {
    let mut zygote = Zygote::start();
    let (running, message) = zygote.try_fork(Container::new(guests::HELLO).mount(tmpfs(), "/../.", true));
    assert_eq!(message, "mount /../.: it is the root itself");
    assert_eq!(zygote.exited(&running).0.exit_code, 128);
}
