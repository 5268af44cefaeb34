//! Pods' addresses and the namespace they live in.
//!
//! ```text
//!  host's namespace                    the pods' namespace, made once: <run-dir>/netns/pods
//!  ┌───────────────────────────┐       ┌──────────────────────────────────────────────┐
//!  │ samara0  10.0.7.1/32      │ veth  │ eth0      default via 169.254.1.1            │
//!  │ 10.0.7.0/24 via 169.254.1.1 ═══════ lo        local 10.0.7.0/24 dev lo           │
//!  └───────────────────────────┘       │           every pod binds its own address    │
//!                                      └──────────────────────────────────────────────┘
//! ```
//! The whole range is local inside (`AnyIP`), so an address costs a line in a ledger and no system call to the network.
//! Both ends have a fixed link-layer address and one permanent neighbour: a thousand pods make no neighbour entries.
//!
//! A node that stands alone and has no range gives its pods addresses of this machine's loopback instead: mode `local`.
//!
//! Caveat: between pods of one node it is host code that keeps their addresses apart, not the kernel.

mod anyip;
mod cidr;
mod dns;
mod forward;
mod hosts;
mod ledger;
mod link;
mod local;
mod netns;
mod places;
mod pool;

pub use anyip::{Attachment, Mode, Network, NetworkError, NetworkState};
pub use cidr::{Cidr, InvalidCidr};
pub use dns::{ClusterDns, Dns, PodDns, pod_dns};
pub use forward::{Forward, ForwardError, Forwarder, Transport, connect, connect_inside};
pub use hosts::{HostName, host_name, hosts_file, hosts_file_of_host};
pub use link::LinkError;
pub use netns::NetnsError;
