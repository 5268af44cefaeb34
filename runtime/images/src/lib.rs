//! Images for Samara: references, pull, push, a content-addressed store, layers unpacked for overlay.
//!
//! The way of an image: [`Reference::parse`] reads its name; [`Puller::pull`] fetches and checks it into an [`ImageStore`];
//! [`ImageStore::get`] finds it again as an [`Image`], whose [`Content`] is either one wasm file or the layers of a root.
//! Credentials come from [`NodeCredentials`] and [`Keyring`]. This crate speaks to neither Kubernetes nor containerd, though it reads
//! some of their configuration files; it runs no guest and loads no code.
//! TLS needs a process-wide rustls provider, which the binary installs.

mod artifact;
mod credentials;
mod digest;
mod format;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod go_duration;
mod image;
mod keyed;
mod layout;
mod media_type;
mod pull;
mod push;
mod reference;
mod registry;
mod removal;
mod store;
mod unpack;

pub use artifact::{Artifact, ArtifactError, RootfsBuilder};
pub use credentials::{
    Account, AccountFacts, DockerConfig, DockerConfigError, ExecError, Keyring, KeyringError, Match, NodeCredentials,
    Owner, PluginConfigError, Plugins, check_provider_response,
};
pub use digest::{Digest, Hasher, InvalidDigest};
pub use format::{ImageConfig, Refusal, WasmKind};
pub use image::{Content, Image};
pub use layout::{Import, LayoutError};
pub use pull::{
    Admit, ImportError, Progress, ProgressEvent, PullCause, PullError, Pulled, Puller, PullerConfig, Retry,
};
pub use push::{PushCause, PushError, Pusher};
pub use reference::{InvalidReference, Reference};
pub use registry::{
    Credential, Detail, HostsError, Proxy, RegistryConfig, RegistryError, RegistryFailure, parse_hosts,
};
pub use store::{Collected, ImageStore, Operation, StoreError, StoredImage};
pub use unpack::{UnpackError, UnpackLimits};
