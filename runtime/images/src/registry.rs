//! Speaking to a registry: one session is one repository, one credential and one purpose. Over `oci-client`.

mod config;
mod credential;
mod error;
mod session;

pub use config::RegistryConfig;
pub use credential::Credential;
pub use error::{RegistryError, RegistryFailure};
pub(crate) use session::{Purpose, Session, Sessions};
