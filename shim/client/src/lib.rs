//! What the shim and those who drive it agree on: annotation keys, the bundle's files, output URIs, and the task client.
//!
//! The protocol is containerd's own (task API v3 over ttrpc); only what it has no field for is ours, and it stands in
//! [`annotations`] and [`bundle`].

pub mod annotations;
pub mod bundle;
pub mod output;
