//! The node: how it joins, what a guest has around it, and its own API.

mod access;
mod api_away;
mod bad_input;
mod classes;
mod env;
mod figures;
mod forwarding;
mod hooks;
mod host_network;
mod identity;
mod join;
mod logs;
mod probes;
mod pulling;
mod renewal;
mod statics;
mod streams;
mod volumes;

use crate::trial::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        join::tests(),
        env::tests(),
        volumes::tests(),
        hooks::tests(),
        probes::tests(),
        forwarding::tests(),
        classes::tests(),
        identity::tests(),
        pulling::tests(),
        host_network::tests(),
        access::tests(),
        streams::tests(),
        logs::tests(),
        figures::tests(),
        bad_input::tests(),
        api_away::tests(),
        renewal::tests(),
        statics::tests(),
    ]
    .concat()
}
