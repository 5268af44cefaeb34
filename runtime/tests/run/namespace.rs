//! A network namespace for one test, with two pods' addresses in it, as in mode anyip.

use std::net::IpAddr;
use std::process::Command;
use std::thread;

use samara_runtime::Network;

/// Runs a test on a thread in a namespace of its own; threads and guests it starts are in it too.
pub(crate) fn inside(test: fn()) {
    let run = thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
        for command in ["link set lo up", "route add local 10.88.0.0/16 dev lo"] {
            let status = Command::new("ip").args(command.split(' ')).status().expect("needs iproute2");
            assert!(status.success(), "ip {command}");
        }
        test();
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Pod `n`: 10.88.0.n with 127.88.0.n.
pub(crate) fn pod(n: u8) -> Network {
    Network {
        pod_ips: vec![IpAddr::from([10, 88, 0, n])],
        loopback: Some(IpAddr::from([127, 88, 0, n])),
        ..Network::default()
    }
}
