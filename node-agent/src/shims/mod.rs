//! Fronts and what runs in them: a pool of shims, bundles on disk, and one handle for each attempt of a container.
//!
//! Everything that is needed to go on after the agent was killed is on disk before the front is asked for it: the bundle
//! with its `config.json`, and our own [`Record`] beside it.

mod bundle;
mod front;
mod pool;
mod record;
mod task;

pub use bundle::{Adoptable, adoptable, write_bundle};
pub use front::Front;
pub use pool::{Shims, ShimsConfig};
pub use record::{Ended, Record, RecordError};
pub use task::{Signal, StartError, Task};
