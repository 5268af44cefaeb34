//! `samara exec`: a further process in a running container.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use oci_spec::runtime::{Process, UserBuilder};
use rand::RngExt as _;
use samara_shim_client::client::ExecTask;

use super::each::runtime;
use crate::container::{Container, Shelf, StopRequest};
use crate::place::{Place, must_be_root};
use crate::run::{env, user};
use crate::supervise::stop::until_end;
use crate::supervise::streams::{Keys, Streams};
use crate::supervise::terminal::{self, Raw};
use crate::supervise::{Signals, Task, task};
use crate::tell::complain;

/// What `samara exec` takes.
#[derive(Debug, Args)]
#[command(
    override_usage = "samara exec [OPTIONS] <CONTAINER> <PROGRAM> [ARGS]...",
    after_help = "Examples:
  samara exec web /bin/ls -l /data
  echo text | samara exec -i web /bin/tee /data/file
  samara exec -it -e DEBUG=1 -w /data tools /bin/shell

The program is a wasm file in the container's file system; an image that is only a module has none.
The exit code is the program's own; 125 when Samara itself failed."
)]
pub(crate) struct ExecArgs {
    /// Name or id, a wasm file in the container, and its arguments
    // One list: all that follows the container is the program's, even if it looks like a flag of ours.
    #[arg(required = true, trailing_var_arg = true, value_names = ["CONTAINER", "PROGRAM", "ARGS"], num_args = 2..)]
    command: Vec<String>,
    /// Keep standard input open and pass it on
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable (NAME alone: with its value here)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Working directory [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User and group as numbers [default: the container's]
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl ExecArgs {
    fn container(&self) -> &str {
        &self.command[0]
    }

    /// There are two at least.
    fn words(&self) -> &[String] {
        &self.command[1..]
    }
}

pub(crate) fn main(args: ExecArgs) -> Result<ExitCode> {
    must_be_root("exec")?;
    terminal::check(args.interactive, args.tty)?;
    let place = args.place.absolute()?;
    let container = Shelf::of(&place).find(args.container())?;
    if container.pid()?.is_none() {
        bail!("{} does not run: `samara start {0}` starts it again", container.record.name);
    }
    let process = process(&args, &container)?;
    runtime()?.block_on(run(&place, &container, &args, process))
}

/// What could not be done, and the likeliest reason.
fn refusal(container: &Container, program: &str) -> String {
    let name = &container.record.name;
    match container.record.layers.is_empty() && !container.record.labels.contains_key(MEMBER) {
        true => format!(
            "run {program} in {name} (which has no root file system of an image: what can be run is what is mounted)"
        ),
        false => format!("run {program} in {name}"),
    }
}

/// What containers of pods are labelled with; of their layers nothing is known here.
const MEMBER: &str = "io.kubernetes.pod.name";

/// As the container's own process, but for what the flags say.
fn process(args: &ExecArgs, container: &Container) -> Result<Process> {
    let mut process = container.spec()?.process().clone().unwrap_or_default();
    let mut variables = process.env().clone().unwrap_or_default();
    if args.tty && !variables.iter().any(|variable| variable.starts_with("TERM=")) {
        variables.push("TERM=xterm".into());
    }
    for text in &args.env {
        env::set(&mut variables, &env::variable(text, |name| std::env::var(name).ok())?);
    }
    if let Some(dir) = &args.workdir {
        process.set_cwd(dir.into());
    }
    if let Some(text) = &args.user {
        let (uid, gid) = user::resolve(Some(text), "", "")?;
        process.set_user(UserBuilder::default().uid(uid).gid(gid).build()?);
    }
    process.set_args(Some(args.words().to_vec())).set_env(Some(variables)).set_terminal(Some(args.tty));
    Ok(process)
}

async fn run(place: &Place, container: &Container, args: &ExecArgs, process: Process) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let exec_id = rand::rng().random::<u64>().to_string();
    let task = Task::of(place, container)?.exec(&exec_id);
    let streams = Streams::make(&place.streams(), args.interactive, args.tty)?;
    let shim = task.shim().await?;
    let exec = ExecTask { id: task.id.clone(), exec_id, process, standard: streams.standard() };
    shim.exec(&exec).await.map_err(task::plain)?;
    let ended = async {
        let started = shim.start(&task.id, &task.exec_id).await.map_err(task::plain);
        started.with_context(|| refusal(container, &args.words()[0]))?;
        // Only now has it opened its ends.
        let mut copies = streams.copy(None, Keys::Unwatched)?;
        let raw = if args.interactive && args.tty { Raw::enter()? } else { None };
        if let (true, Some((columns, rows))) = (args.tty, terminal::size()) {
            drop(shim.resize_pty(&task.id, &task.exec_id, columns, rows).await);
        }
        let request = |signal| Ok(StopRequest { signal, grace: container.record.stop_timeout });
        let end = until_end(&task, &mut signals, &mut copies, request).await?;
        copies.finish().await?;
        drop(raw);
        anyhow::Ok(end.ended)
    }
    .await;
    // With its container it may be gone already.
    let _ = task.delete().await;
    let ended = ended?;
    if let Some(message) = ended.untold() {
        complain(message);
    }
    Ok(ExitCode::from(ended.exit_code))
}
