//! `samara run`: a container without a cluster, through the same front, zygote and container process.
//!
//! [`args`] are what was typed; [`flag`] reads each of them; [`wanted`] is what they say together; [`program`] is what is
//! to be run; [`plan`] makes a record and an OCI configuration of the two, and knows nothing of this machine.

mod args;
mod dns;
mod flag;
mod plan;
mod program;
mod spec;
mod wanted;

use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use rand::RngExt as _;

pub(crate) use self::args::RunArgs;
pub(crate) use self::flag::{env, user};
pub(crate) use self::program::Pull;
pub(crate) use self::wanted::Wanted;
use crate::container::{Container, Shelf};
use crate::image::registries::Registries;
use crate::place::{Place, must_be_root};
use crate::supervise::{attached, monitor, terminal};

/// Runs it to its end, and the guest's exit code is ours; with `-d` leaves it running and prints its id.
pub(crate) fn main(args: RunArgs) -> Result<ExitCode> {
    must_be_root("run")?;
    let place = args.place.absolute()?;
    let detached = args.detach;
    let (pull, registries) = (args.pull, args.registries.clone());
    let wanted = Wanted::of(args, |name| std::env::var(name).ok())?;
    terminal::check(wanted.interactive && !detached, wanted.terminal)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let container = create(&place, &registries, wanted, pull).await?;
        if !detached {
            return attached::run(&place, &Shelf::of(&place), &container).await;
        }
        start(&place, &container)?;
        crate::format::print(format!("{}\n", container.record.id))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Puts it on the shelf: nothing of it runs yet.
pub(crate) async fn create(place: &Place, registries: &Registries, wanted: Wanted, pull: Pull) -> Result<Container> {
    let program = program::find(place, registries, &wanted.image, pull).await?;
    let host = plan::Host { id: new_id(), now: Timestamp::now(), volumes: place.volumes(), dns: dns() };
    let (record, spec) = plan::plan(&wanted, &program, &host)?;
    // What has to be there first: a container that cannot be leaves no volume behind.
    let (there, made): (Vec<_>, Vec<_>) = wanted.mounts.iter().partition(|mount| mount.must_be_there());
    for mount in there.into_iter().chain(made) {
        mount.make(&host.volumes)?;
    }
    Shelf::of(place).create(record, &spec)
}

/// Starts a container that nobody is attached to. One that cannot be started is removed.
pub(crate) fn start(place: &Place, container: &Container) -> Result<()> {
    monitor::spawn(place, container).inspect_err(|_| drop(Shelf::of(place).remove(container)))
}

/// A file that is missing names no server.
fn dns() -> Vec<std::net::IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    dns::servers(&read("/etc/resolv.conf"), &read(dns::BEHIND_RESOLVED))
}

/// 64 hexadecimal digits, as container runtimes name containers.
fn new_id() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
