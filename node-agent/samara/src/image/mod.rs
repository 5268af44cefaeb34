//! The verbs for images: the store of this machine, and its way to registries and files.

pub(crate) mod archive;
pub(crate) mod auth;
pub(crate) mod build;
pub(crate) mod compile;
mod grants;
pub(crate) mod interrupt;
pub(crate) mod list;
pub(crate) mod login;
mod progress;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod registries;
pub(crate) mod remove;
pub(crate) mod store;
pub(crate) mod tag;
pub(crate) mod wasm;
