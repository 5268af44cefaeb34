//! `samara kube`: the pods of a manifest on this machine, without a cluster.
//!
//! Nothing is done here a second time. The pods are looked after by a node of the agent's own making ([`node`]), which
//! stands alone on a directory of manifests: `play` puts a file there and waits for what the node says, `down` takes it
//! away and waits until nothing is left. The node is started by the first `play` and ends after the last `down`.
//!
//! ```text
//!  <run-dir>/kube.gate            held while manifests change, and while the node ends
//!  <run-dir>/kube.node            held by the node
//!  <run-dir>/kube/manifests/      one file for each play
//!  <run-dir>/kube/status/         what the node says of each pod
//!  <run-dir>/kube/bundles/ ..     what it has beside
//!  <root-dir>/kube/               volumes, writable layers, logs
//! ```

mod down;
mod home;
pub(crate) mod member;
pub(crate) mod node;
mod plan;
mod play;
mod verdict;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// `samara kube ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Kube {
    /// Run the pods of a manifest
    Play(play::PlayArgs),
    /// End the pods of a manifest, and remove them
    Down(down::DownArgs),
}

pub(crate) fn main(verb: Kube) -> Result<ExitCode> {
    match verb {
        Kube::Play(args) => play::main(args),
        Kube::Down(args) => down::main(args),
    }
}
