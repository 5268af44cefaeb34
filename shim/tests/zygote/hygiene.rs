//! What a child does not have of its zygote and of its zygote's other children.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use crate::container::Container;
use crate::guests;
use crate::zygote::{Running, Zygote};

crate::trials![
    what_guests_draw_differs_from_child_to_child,
    the_hosts_own_random_numbers_of_a_thousand_children_all_differ,
    a_child_has_its_own_files_and_no_other,
    the_zygote_keeps_no_file_of_a_child_that_ended,
    a_child_has_no_environment_and_no_foreign_secret_in_memory,
    a_child_shows_the_containers_name_and_a_session_of_its_own,
];

/// `wasi:random` is the kernel's, which no fork repeats: what is looked at is that nobody puts another in its place.
fn what_guests_draw_differs_from_child_to_child() {
    let mut zygote = Zygote::start();
    let mut drawn = BTreeSet::new();
    for _ in 0..20 {
        let (container, mut stdout) = Container::new(guests::RANDOM).stdout();
        let running = zygote.fork(container);
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 16);
        assert!(drawn.insert(bytes), "drawn twice");
        zygote.exited(&running);
    }
}

/// The generator was used before the fork: without a reseed all children would draw the same.
fn the_hosts_own_random_numbers_of_a_thousand_children_all_differ() {
    let mut zygote = Zygote::probing();
    let mut drawn = BTreeSet::new();
    for _ in 0..1000 {
        let running = zygote.fork(Container::probe("random"));
        let (_, record) = zygote.exited(&running);
        assert!(drawn.insert(record.message.unwrap()), "drawn twice");
    }
}

fn a_child_has_its_own_files_and_no_other() {
    let mut zygote = Zygote::start();
    let _other = zygote.fork(Container::new(guests::SLEEP).controlled());
    let (container, _stdout) = Container::new(guests::SPIN).controlled().stdout();
    let running = zygote.fork(container);
    let _later = zygote.fork(Container::new(guests::SLEEP));
    let mut unexpected = Vec::new();
    let (mut pipes, mut reports) = (0, 0);
    // By their inodes: of the one to which fronts connect, the control thread keeps copies in reserve.
    let mut sockets = BTreeSet::new();
    for (number, file) in running.files() {
        match file.as_str() {
            "/dev/null" if number < 3 => {}
            socket if socket.starts_with("socket:") => drop(sockets.insert(file)),
            file if file.starts_with("pipe:") => pipes += 1,
            "/memfd:samara-report (deleted)" => reports += 1,
            // Its own page map, and its code, which stays mapped from the file.
            file if file.ends_with("/pagemap") && file.contains(&running.pid.to_string()) => {}
            file if file.contains("(deleted)") && file.starts_with("/tmp/") => {}
            _ => unexpected.push((number, file)),
        }
    }
    assert_eq!(unexpected, []);
    assert_eq!((sockets.len(), pipes, reports), (1, 1, 1), "{:?}", running.files());
}

fn the_zygote_keeps_no_file_of_a_child_that_ended() {
    let mut zygote = Zygote::start();
    let files = |zygote: &Zygote| std::fs::read_dir(format!("/proc/{}/fd", zygote.pid())).unwrap().count();
    zygote.code_of(Container::new(guests::HELLO));
    let before = files(&zygote);
    for _ in 0..20 {
        zygote.code_of(Container::new(guests::HELLO));
    }
    assert_eq!(files(&zygote), before);
}

fn a_child_has_no_environment_and_no_foreign_secret_in_memory() {
    let mut zygote = Zygote::probing();
    let secret = "SECRET=4c1d0bd0-of-the-first";
    let holder = zygote.fork(Container::probe("secret").with(|plan| plan.guest.env = vec![secret.into()]));
    let other = zygote.fork(Container::probe("secret"));
    assert_eq!(std::fs::read(holder.proc("environ")).unwrap(), b"");
    assert!(memory_of(&holder, secret.as_bytes()), "the search finds what is there");
    assert!(!memory_of(&other, secret.as_bytes()));
    let zygote_memory = Running { pid: zygote.pid(), ..other };
    assert!(!memory_of(&zygote_memory, secret.as_bytes()));
}

/// Whether a process has these bytes anywhere in what it may write.
fn memory_of(process: &Running, needle: &[u8]) -> bool {
    let memory = File::open(process.proc("mem")).unwrap();
    let maps = std::fs::read_to_string(process.proc("maps")).unwrap();
    maps.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let parse = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (parse(start), parse(end));
        // The pool's reserved slots are large, empty and without rights.
        if !rights.starts_with("rw") || end - start > 64 << 20 {
            return false;
        }
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact_at(&mut bytes, start).is_ok() && memchr::memmem::find(&bytes, needle).is_some()
    })
}

fn a_child_shows_the_containers_name_and_a_session_of_its_own() {
    let mut zygote = Zygote::start();
    let container =
        Container::new(guests::SLEEP).with(|plan| plan.title = "a-name-longer-than-the-kernel-keeps".into());
    let running = zygote.fork(container);
    assert_eq!(running.status("Name"), "a-name-longer-t");
    assert_eq!(running.status("NSsid").split_whitespace().last(), Some("1"));
    assert_eq!(running.status("SigBlk"), "0000000000000000");
}
