//! The promises: limits, restarts, roll-outs without a lost request, and a life that does not depend on the agent's.

mod agent;
mod limits;
mod restarts;
mod rollouts;
mod stopping;
mod systemd;

use crate::trial::Test;

pub(crate) fn tests() -> Vec<Test> {
    [limits::tests(), restarts::tests(), rollouts::tests(), stopping::tests(), agent::tests(), systemd::tests()]
        .concat()
}
