//! Pods: watched (in the API server, and in manifests on this node's disk: `sources`), dispatched to one worker each, and carried through their lives.
//!
//! ```text
//!  watch ──Change──▶ dispatch ──Wish (newest wins)──▶ worker ──▶ compute (samara_core) ──▶ effects
//!                        ▲                              ▲  │                                  │
//!                        └── worker ended               │  └──▶ status, events                │
//!                                                       └───────────── Happened ◀─────────────┘
//! ```
//! A worker owns all that is known of its pod. Effects (sandbox, start, stop, probes, the wait for an end) are tasks which
//! hold no policy and report what happened; the worker takes that into its observation and asks the rules again.

mod adopt;
mod assemble;
mod config;
mod context;
mod dispatch;
mod ending;
mod happened;
mod hear;
mod host_ports;
mod identity;
mod images_in_use;
mod last_words;
mod logs;
mod sandbox;
mod sources;
mod start;
mod statics;
mod stop;
mod table;
mod watch;
mod worker;

pub use assemble::{PodsError, start};
pub use config::{CredentialsConfig, PodsConfig};
pub use context::Context;
pub use dispatch::Evict;
pub use identity::PodRef;
pub use images_in_use::images_of_pods;
pub use statics::Manifests;
pub use table::{Pods, Running};

#[cfg(test)]
pub(crate) mod tests;
