//! Volumes: made before a pod's containers, kept up to date while they run, taken away after them.
//!
//! | volume | where | notes |
//! |---|---|---|
//! | configMap, secret, downwardAPI, projected | one tmpfs under the run directory | never on disk; swapped atomically |
//! | emptyDir | the pod's directory under the root directory | `medium: Memory`: a tmpfs of its own |
//! | hostPath | the host's path | its type is checked |
//! | `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`, termination logs | the pod's directory | |

mod atomic;
mod directory;
mod empty_dir;
mod host_path;
mod layout;
mod ownership;
mod pod_volumes;
mod projected;
mod sub_path;

pub use directory::{DirectoryError, remove_tree};
pub(crate) use empty_dir::is_tmpfs;
pub use layout::Layout;
pub use pod_volumes::{EtcFiles, PodVolumes, VolumeFailure};
pub use projected::prepare_tmpfs;
