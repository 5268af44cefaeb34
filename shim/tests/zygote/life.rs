//! A zygote's own life: it outlives fronts, its containers outlive it, and it ends when nobody will ask again.

use rustix::process::Signal;
use samara_shim::zygote::protocol::send_retire;

use crate::container::Container;
use crate::guests;
use crate::zygote::Zygote;

crate::trials![
    containers_outlive_a_killed_zygote,
    no_front_is_no_reason_to_end,
    a_new_front_replaces_the_old_one,
    a_retired_zygote_ends_with_its_last_container,
    a_retired_zygote_forks_no_more,
    a_zygote_whose_socket_is_removed_ends_with_front_and_containers,
    a_zygote_whose_socket_is_gone_before_it_serves_ends,
    a_signal_to_the_fronts_group_does_not_reach_it,
];

fn containers_outlive_a_killed_zygote() {
    let mut zygote = Zygote::start();
    let running: Vec<_> = (0..5).map(|_| zygote.fork(Container::new(guests::SLEEP))).collect();
    zygote.kill();
    for running in &running {
        assert!(running.lives());
        assert_eq!(running.status("State"), "S (sleeping)");
    }
}

fn no_front_is_no_reason_to_end() {
    let mut zygote = Zygote::start();
    zygote.disconnect();
    assert_eq!(zygote.reconnect(), 0);
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7);
}

fn a_new_front_replaces_the_old_one() {
    let mut zygote = Zygote::start();
    let old = zygote.take_connection();
    zygote.reconnect();
    assert!(crate::zygote::closed(&old));
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7);
}

fn a_retired_zygote_ends_with_its_last_container() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP));
    send_retire(zygote.connection()).unwrap();
    assert_eq!(zygote.reconnect(), 1, "it still serves");
    running.kill(Signal::KILL);
    assert_eq!(zygote.exited(&running).0.exit_code, 137, "the last end is told");
    assert!(zygote.wait());
}

fn a_retired_zygote_forks_no_more() {
    let mut zygote = Zygote::start();
    let _running = zygote.fork(Container::new(guests::SLEEP));
    send_retire(zygote.connection()).unwrap();
    let error = zygote.refused(Container::new(guests::HELLO));
    assert_eq!(error.raw_os_error(), Some(libc::ESHUTDOWN));
}

fn a_zygote_whose_socket_is_removed_ends_with_front_and_containers() {
    let mut zygote = Zygote::start();
    let running = zygote.fork(Container::new(guests::SLEEP));
    std::fs::remove_file(zygote.socket()).unwrap();
    assert_eq!(zygote.code_of(Container::new(guests::SEVEN)), 7, "its front is still there");
    zygote.disconnect();
    running.kill(Signal::KILL);
    assert!(zygote.wait());
    assert_eq!(running.bundle.exit_record().unwrap().unwrap().exit_code, 137);
}

fn a_zygote_whose_socket_is_gone_before_it_serves_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zygote.sock");
    let listen = samara_shim::zygote::listen(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut zygote = samara_shim::zygote::start(&std::env::current_exe().unwrap(), listen).unwrap();
    let began = std::time::Instant::now();
    let ended = loop {
        match zygote.try_wait().unwrap() {
            None if began.elapsed() < crate::zygote::SOON => std::thread::sleep(std::time::Duration::from_millis(2)),
            None => {
                zygote.kill().unwrap();
                break zygote.wait().unwrap();
            }
            Some(status) => break status,
        }
    };
    assert!(ended.success(), "{ended}");
}

fn a_signal_to_the_fronts_group_does_not_reach_it() {
    let zygote = Zygote::start();
    let session_of = |pid| nix::unistd::getsid(pid).unwrap();
    let zygotes = session_of(Some(nix::unistd::Pid::from_raw(zygote.pid())));
    // Not compared with this one's alone: where its leader is outside the pid namespace, that has no number here.
    assert_eq!(zygotes.as_raw(), zygote.pid(), "it leads a session of its own");
    assert_ne!(zygotes, session_of(None));
}
