//! Speaking to a registry: the distribution specification's `/v2/` API and docker's token scheme, over `reqwest`.
//!
//! Everything that a registry sends is bounded, in length and in time, before it is held (`docs/decisions/0003`).
//! One [`Session`] is one repository with one credential; it asks one place after the other: mirrors, then the registry.

mod answer;
mod challenge;
mod clients;
mod config;
mod credential;
mod endpoint;
mod error;
mod hosts;
mod place;
mod redirect;
mod session;
mod token;
mod upload;

pub use config::{Proxy, RegistryConfig};
pub use credential::Credential;
pub use error::{Detail, RegistryError, RegistryFailure};
pub use hosts::{HostsError, parse_hosts};
pub(crate) use session::{Giver, Purpose, Session, Sessions};

/// For the fuzz targets.
#[cfg(any(fuzzing, test))]
pub(crate) fn challenge(text: &str) -> bool {
    challenge::Challenge::choose([text]).is_some()
}
