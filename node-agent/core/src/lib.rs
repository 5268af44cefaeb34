//! The pure rules of a node: what a pod's specification and an observation of it mean.
//!
//! Nothing here does IO, waits, reads a clock or holds a client: every function is one of values, and time is an
//! argument. The agent observes, asks this crate, carries out what it says, and tells the API server.
//!
//! | question | answered by |
//! |---|---|
//! | what is in a manifest file? | [`manifest::parse`], [`statics::static_pod`] |
//! | may this pod run here? | [`admission::admit`] |
//! | which objects does it read? | [`volumes::references`] |
//! | what is in its volumes? | [`volumes::project`] |
//! | what is to be done now? | [`pod::compute`] |
//! | which environment has a container? | [`env::environment`] |
//! | what does the shim get? | [`oci::spec`], [`resources`] |
//! | is it alive, ready, started? | [`probe::Prober`] |
//! | what is told? | [`pod::status`], [`events`], [`node::node`] |

pub mod admission;
pub mod backoff;
pub mod config;
pub mod env;
pub mod events;
pub mod fields;
#[cfg(test)]
mod fixtures;
pub mod logs;
pub mod manifest;
pub mod node;
pub mod objects;
pub mod oci;
pub mod pod;
pub mod probe;
pub mod pull;
pub mod quantity;
pub mod reasons;
pub mod resources;
pub mod statics;
pub mod volumes;
