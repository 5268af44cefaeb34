//! A pod: observed, decided on, reported.

mod actions;
pub mod conditions;
mod containers;
mod end;
mod life;
mod observed;
mod phase;
mod previous;
mod restart;
mod status;
#[cfg(test)]
mod tests;

pub use actions::{KillContainer, KillReason, MINIMUM_GRACE, PodActions, StartContainer, compute};
pub use containers::CONTAINER_ID_SCHEME;
pub use life::{Life, PodState};
pub use observed::{
    ContainerKind, ContainerState, Exit, Failure, ObservedContainer, ObservedPod, Running, Sandbox, Stopping,
    Termination, Waiting,
};
pub use restart::is_sidecar;
pub use status::{is_host_network, status};
