//! Commands that are asked to end and end by themselves.

use std::time::Duration;

use samara_runtime::StopAction;

use crate::guest::{Guest, Running};
use crate::wasm;

crate::trials![
    a_command_with_the_stop_interface_ends_by_itself,
    a_component_may_poll_for_its_end,
    one_that_does_not_look_goes_on,
];

const GRACE: Duration = Duration::from_secs(30);

fn started(bytes: &[u8], how: &str) -> Running {
    let guest = Guest::new(bytes).args(&[how]).start();
    guest.stdout.wait_for("ready\n");
    guest
}

#[track_caller]
fn ends_by_itself(guest: Running) {
    assert_eq!(guest.handle.stop(GRACE), StopAction::Draining);
    let ended = guest.wait();
    assert_eq!((ended.exit.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(["ready\n30 s left\n", "ready\n29 s left\n"].contains(&ended.stdout.as_str()), "{ended:?}");
}

fn a_command_with_the_stop_interface_ends_by_itself() {
    for bytes in [wasm::module("stopper"), wasm::component("stopper")] {
        for how in ["wait", "asked"] {
            ends_by_itself(started(&bytes, how));
        }
    }
}

fn a_component_may_poll_for_its_end() {
    ends_by_itself(started(&wasm::component("stopper"), "subscribe"));
}

fn one_that_does_not_look_goes_on() {
    for bytes in [wasm::module("stopper"), wasm::component("stopper")] {
        let guest = started(&bytes, "ignore");
        // It is still the guest's to end, until somebody loses patience with it.
        assert_eq!(guest.handle.stop(Duration::ZERO), StopAction::Draining);
        assert_eq!(guest.handle.stop(Duration::ZERO), StopAction::Draining);
        assert_eq!(guest.has_ended(), None);
    }
}
