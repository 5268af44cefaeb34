//! A pod's worker with everything real around it but three: the API server, the registry and the front are scripted, behind
//! their real protocols, so that they can fail on cue.

mod api;
mod dispatching;
mod front;
mod guest;
mod lives;
mod probing;
pub(crate) mod registry;
mod scene;
