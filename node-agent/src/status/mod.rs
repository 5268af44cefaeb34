//! Pods' status told to the API server: the newest for each pod, side by side, until it is taken; then the final delete.

mod files;
mod patch;
mod queue;
mod writer;

pub use files::StatusFiles;
pub use queue::Urgency;
pub use writer::{StatusLoop, StatusWriter};
