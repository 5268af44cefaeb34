//! What the shim and those who drive it agree on: annotation keys, the bundle's files, output URIs, cgroups, and the task client.
//!
//! The protocol is containerd's own (task API v3 over ttrpc); only what it has no field for is ours, and it stands in
//! [`annotations`] and [`bundle`].

pub mod annotations;
pub mod bundle;
pub mod cgroup;
pub mod client;
pub mod error;
pub mod front;
pub mod listening;
pub mod metrics;
pub mod output;
pub mod process;
pub mod upgrade;

pub use client::{CreateTask, ExecTask, Exit, RootMount, Shim, Standard, State, Status};
pub use error::ShimError;
pub use front::{FrontConfig, FrontError, start_front};
