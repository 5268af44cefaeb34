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
use crate::container::{Container, Held, NameTaken, Shelf, random_name};
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
        let (container, held) = create(&place, &registries, wanted, pull).await?;
        if !detached {
            return attached::run(&place, &Shelf::of(&place), &container, held).await;
        }
        start(&place, &container, &held)?;
        crate::format::print(format!("{}\n", container.record.id))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Puts it on the shelf, with its lock: nothing of it runs yet.
async fn create(place: &Place, registries: &Registries, wanted: Wanted, pull: Pull) -> Result<(Container, Held)> {
    let program = program::find(place, registries, &wanted.image, pull).await?;
    let (volumes, dns) = (place.volumes(), dns());
    let mut host = plan::Host { id: new_id(), name: random_name(), now: Timestamp::now(), volumes, dns };
    let planned = plan::plan(&wanted, &program, &host)?;
    // What has to be there first: a container that cannot be leaves no volume behind.
    let (there, made): (Vec<_>, Vec<_>) = wanted.mounts.iter().partition(|mount| mount.must_be_there());
    for mount in there.into_iter().chain(made) {
        mount.make(&host.volumes)?;
    }
    let (shelf, (mut record, mut spec)) = (Shelf::of(place), planned);
    for _ in 0..NAMES_TRIED {
        match shelf.create(record, &spec) {
            // The name was our own choice.
            Err(error) if wanted.name.is_none() && error.is::<NameTaken>() => host.name = random_name(),
            done => return done,
        }
        (record, spec) = plan::plan(&wanted, &program, &host)?;
    }
    shelf.create(record, &spec)
}

/// Of some 57,000 there is a free one, unless nearly all are taken.
const NAMES_TRIED: usize = 1_000;

/// Starts a container that nobody is attached to. One that cannot be started is removed.
fn start(place: &Place, container: &Container, held: &Held) -> Result<()> {
    monitor::spawn(place, container, held).inspect_err(|_| drop(Shelf::of(place).remove(container)))
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
