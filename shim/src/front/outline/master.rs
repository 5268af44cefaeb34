//! Whose word is taken for what. The agent writes every annotation of its bundles itself; containerd hands on what a user
//! wrote, who may be allowed to run a pod and nothing else.

use oci_spec::runtime::Spec;

use super::OutlineError;
use samara_shim_client::annotations as keys;

/// Who drives this front: it was started for one of them and serves no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Master {
    /// The node agent, or `samara run`.
    Agent,
    Containerd,
}

/// They name files of the host, code of other users' images, limits above the container's, and other pods' addresses.
const AGENTS: [&str; 5] = [keys::MODULE, keys::MODULE_DIGEST, keys::POD_RESOURCES, keys::POD_IPS, keys::POD_LOOPBACK];

/// Refuses by name what this master may not ask for.
pub(super) fn check(spec: &Spec, master: Master) -> Result<(), OutlineError> {
    let annotations = spec.annotations().as_ref();
    let is_set = |key: &&str| annotations.is_some_and(|all| all.contains_key(*key));
    match master {
        Master::Agent => Ok(()),
        Master::Containerd => AGENTS.into_iter().find(is_set).map_or(Ok(()), |key| Err(OutlineError::Agents(key))),
    }
}
