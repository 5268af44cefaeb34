//! The verbs for images: the store of this machine, and its way to registries and files.

pub(crate) mod auth;
pub(crate) mod list;
mod progress;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod store;
