//! `samara wait`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use super::each::runtime;
use super::stop::{gone, supervisor};
use crate::container::{Container, Shelf, Status};
use crate::format::print;
use crate::place::{Place, must_be_root};
use crate::supervise::Task;

/// What `samara wait` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara wait job          # prints its exit code when it has ended and will not be started again")]
pub(crate) struct WaitArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: WaitArgs) -> Result<ExitCode> {
    must_be_root("wait")?;
    let place = args.place.absolute()?;
    let shelf = Shelf::of(&place);
    let containers = args.containers.iter().map(|name| shelf.find(name)).collect::<Result<Vec<_>>>()?;
    let runtime = runtime()?;
    for container in &containers {
        print(format!("{}\n", runtime.block_on(end(&place, container))?))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn end(place: &Place, container: &Container) -> Result<u8> {
    let Some(supervisor) = supervisor(container)? else {
        if container.pid()?.is_some() {
            return Ok(Task::of(place, container)?.wait().await?.exit_code);
        }
        return code(container);
    };
    if container.record.remove {
        // It goes with its end, and what it ended with goes too: the front is asked, while there is one.
        let shim = Task::of(place, container)?.living().await.context("it has just ended, and is removed (--rm)")?;
        let exit = shim.wait(&container.record.id, "").await.context("it has just ended, and is removed (--rm)")?;
        return Ok(u8::try_from(exit.code).unwrap_or(255));
    }
    gone(supervisor).await?;
    code(container)
}

fn code(container: &Container) -> Result<u8> {
    match container.status()? {
        Status::Exited { ended: Some(ended) } => Ok(ended.exit_code),
        status @ (Status::Created
        | Status::Starting
        | Status::Running { .. }
        | Status::Restarting { .. }
        | Status::Exited { ended: None }) => Err(anyhow::Error::msg(status.word())).context("it did not end"),
    }
}
