//! Static pods: read from manifests on this node's disk, and mirrored to the API server if there is one.

mod directory;
mod feed;
mod files;
mod mirrors;

pub use directory::Manifests;
pub(super) use feed::Feed;
pub(super) use files::follow;
pub(super) use mirrors::Mirrors;
