//! A pod: observed, decided on, reported.

mod actions;
mod life;
mod observed;
mod status;

pub use actions::{KillContainer, KillReason, PodActions, StartContainer, compute};
pub use life::{Life, PodState};
pub use observed::{
    ContainerKind, ContainerState, Exit, Failure, ObservedContainer, ObservedPod, Running, Sandbox,
    Stopping, Termination, Waiting,
};
pub use status::status;
