//! Whose name a registry is shown: docker's configuration files and their helpers, and the kubelet's credential-provider plugins.
//!
//! Several may fit an image; they are tried in the order given here, the most particular first.

mod docker;
mod exec;
mod keyring;
mod pattern;
mod plugins;
mod run;

pub use docker::{DockerConfig, DockerConfigError};
pub use exec::ExecError;
pub use keyring::{Keyring, KeyringError, Match};
pub use plugins::{Account, AccountFacts, PluginConfigError, Plugins, check_provider_response};
pub use run::{NodeCredentials, Owner};
