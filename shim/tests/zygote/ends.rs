//! How containers end, as the zygote records and tells it.

use rustix::process::Signal;
use samara_shim_client::cgroup::{Cgroup, Cgroups};

use crate::container::Container;
use crate::guests;
use crate::zygote::Zygote;

crate::trials![
    a_module_and_a_component_run_to_their_end,
    an_exit_code_is_the_guests_own,
    a_trap_is_134_with_its_message,
    a_killed_guest_is_137_and_not_out_of_memory,
    a_guest_past_its_memory_limit_is_137_and_out_of_memory,
    a_guest_that_the_kernel_kills_for_memory_is_out_of_memory_by_the_counter,
    a_guest_that_the_kernel_kills_for_memory_is_out_of_memory_in_a_real_cgroup,
    a_panic_of_ours_is_reported_and_ends_one_container,
    ends_while_no_front_is_connected_are_told_to_the_next,
];

fn a_module_and_a_component_run_to_their_end() {
    let mut zygote = Zygote::start();
    assert_eq!(zygote.code_of(Container::new(guests::HELLO)), 0);
    assert_eq!(zygote.code_of(Container::new(guests::HELLO_COMPONENT)), 0);
}

fn an_exit_code_is_the_guests_own() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SEVEN));
    let (exited, record) = zygote.exited(&running);
    assert_eq!((exited.request, exited.exit_code, exited.oom), (running.request, 7, false));
    assert_eq!(record.message, None);
}

fn a_trap_is_134_with_its_message() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::TRAP));
    let (exited, record) = zygote.exited(&running);
    assert_eq!((exited.exit_code, exited.oom), (134, false));
    assert!(record.message.unwrap().contains("unreachable"));
}

fn a_killed_guest_is_137_and_not_out_of_memory() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SPIN));
    running.kill(Signal::KILL);
    let (exited, _) = zygote.exited(&running);
    assert_eq!((exited.exit_code, exited.oom), (137, false));
}

fn a_guest_past_its_memory_limit_is_137_and_out_of_memory() {
    let mut zygote = Zygote::start();
    let container = Container::new(guests::HOG).with(|plan| plan.guest.memory_limit = Some(4 << 20));
    let running = zygote.fork(container);
    let (exited, record) = zygote.exited(&running);
    assert_eq!((exited.exit_code, exited.oom), (137, true));
    assert!(record.message.unwrap().contains("memory"));
}

/// Told from any other SIGKILL, also in a cgroup in which the kernel has killed before.
fn a_guest_that_the_kernel_kills_for_memory_is_out_of_memory_in_a_real_cgroup() {
    let mut zygote = Zygote::start();
    let cgroup = RealCgroup::make(24 << 20);
    for (guest, kill, oom) in [(guests::HOG, false, true), (guests::SPIN, true, false), (guests::HOG, false, true)] {
        let running = zygote.fork(Container::new(guest).cgroup(&cgroup.0));
        if kill {
            running.kill(Signal::KILL);
        }
        let (exited, record) = zygote.exited(&running);
        assert_eq!((exited.exit_code, exited.oom), (137, oom), "{record:?}");
    }
}

/// Removed with the test.
struct RealCgroup(Cgroup);

impl RealCgroup {
    fn make(memory: u64) -> Self {
        let path = format!("/samara-zygote-test-{}", std::process::id());
        let cgroup = Cgroups::detect().unwrap().group(&path).unwrap();
        let resources = serde_json::json!({"memory": {"limit": memory, "swap": memory}});
        cgroup.make(&serde_json::from_value(resources).unwrap()).unwrap();
        Self(cgroup)
    }
}

impl Drop for RealCgroup {
    fn drop(&mut self) {
        let began = std::time::Instant::now();
        while self.0.kill().and_then(|()| self.0.try_remove()).is_err() && began.elapsed() < crate::zygote::SOON {
            std::thread::yield_now();
        }
    }
}

/// The counter is a file of the test's, which moves it as the kernel would.
fn a_guest_that_the_kernel_kills_for_memory_is_out_of_memory_by_the_counter() {
    let mut zygote = Zygote::start();
    let path = zygote.directory().join("memory.events");
    std::fs::write(&path, "oom 1\noom_kill 1\n").unwrap();
    for (after, oom) in [("oom_kill 1\n", false), ("oom_kill 2\n", true)] {
        std::fs::write(&path, "oom 1\noom_kill 1\n").unwrap();
        let running = zygote.fork(Container::new(guests::SPIN).oom_counter(&path));
        std::fs::write(&path, after).unwrap();
        running.kill(Signal::KILL);
        assert_eq!(zygote.exited(&running).0.oom, oom, "{after}");
    }
}

fn a_panic_of_ours_is_reported_and_ends_one_container() {
    let mut zygote = Zygote::probing();
    let running = zygote.fork(Container::probe("panic"));
    let (exited, record) = zygote.exited(&running);
    assert_eq!(exited.exit_code, 134);
    let message = record.message.unwrap();
    assert!(message.contains("Samara's own error") && message.contains("a mistake of ours"), "{message}");
    let running = zygote.fork(Container::probe("root"));
    assert_eq!(zygote.exited(&running).0.exit_code, 0);
}

fn ends_while_no_front_is_connected_are_told_to_the_next() {
    let mut zygote = Zygote::start();
    let (lives, ends) = (zygote.fork(Container::new(guests::SPIN)), zygote.fork(Container::new(guests::SPIN)));
    zygote.disconnect();
    ends.kill(Signal::KILL);
    ends.ended();
    crate::zygote::until("exit.json", || ends.bundle.exit_record().unwrap());
    assert_eq!(zygote.reconnect(), 1, "one child is left");
    assert_eq!(zygote.exited(&ends).0.exit_code, 137);
    assert!(lives.lives());
}
