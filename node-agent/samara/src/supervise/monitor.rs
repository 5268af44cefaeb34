//! `samara-monitor`: the process that looks after one detached container, and starts it again if it is asked to.
//!
//! It is this program under another name, in a session of its own. SIGTERM asks it to stop its container for good. It
//! ends when its container has ended for good; if it is killed instead, the container lives on without restarts.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use samara_shim_client::client::Standard;
use samara_shim_client::output::{CriLog, OutputUri};

use super::log::{LOG_FILES, LOG_SIZE};
use super::ports::Forwarder;
use super::restart::{self, Life, Next};
use super::stop::{End, Nobody, request, until_end};
use super::{Signals, Task};
use crate::container::{Container, Ended, Held, Phase, Shelf, State, Supervisor};
use crate::place::Place;

/// `argv[0]` by which the binary knows that it is a monitor.
pub(crate) const NAME: &str = "samara-monitor";
/// What it says once its container runs, or was asked to stop before it could; anything else is what went wrong.
const STARTED: &str = "started";

/// Leaves a monitor running that has started the container, and that holds its lock from the first moment.
pub(crate) fn spawn(place: &Place, container: &Container, held: &Held) -> Result<()> {
    let exe = std::env::current_exe().context("find this program's own file")?;
    let log = container.dir().join("log/monitor.log");
    let log = File::create(&log).with_context(|| format!("make {}", log.display()))?;
    let mut command = Command::new(exe);
    command.arg0(NAME).args([place.root_dir(), place.run_dir(), container.dir()]).current_dir("/");
    // It must not keep open what our own caller waits for.
    let child = command.stdin(held.pass_on()?).stdout(Stdio::piped()).stderr(log).spawn();
    let mut child = child.context("start the container's monitor")?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).context("hear from the container's monitor")?;
    }
    match said.trim() {
        STARTED => Ok(()),
        "" => bail!("the container's monitor ended with {}", child.wait()?),
        error => bail!("{error}"),
    }
}

/// The whole life of the process; `args` are without its name. To be called before there is a second thread.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Fails for the leader of a session, which is as good.
    let _ = rustix::process::setsid();
    let mut args = args.into_iter().map(PathBuf::from);
    let (Some(root), Some(run), Some(dir)) = (args.next(), args.next(), args.next()) else {
        eprintln!("{NAME} is started by `samara run -d` and `samara start`");
        return ExitCode::FAILURE;
    };
    let place = Place::new(root, run);
    let done = Container::at(&dir).and_then(|container| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(watch(&place, &container))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn watch(place: &Place, container: &Container) -> Result<()> {
    let task = Task::of(place, container)?;
    let mut signals = Signals::listen()?;
    let before = container.state()?;
    let mut state = State { phase: Phase::Created, supervisor: Some(Supervisor::me()?), restarts: 0, ..before };
    // The first: from here on it is to be stopped by asking us.
    container.write_state(&state)?;
    let watched = lives(container, &task, &mut signals, &mut state).await;
    task.clear().await.context("end the container's front")?;
    state.phase = Phase::Exited;
    if container.record.remove {
        Shelf::of(place).remove(container)?
    } else {
        container.write_state(&state)?
    }
    // The last: whoever started us may remove what is left.
    watched.inspect_err(|error| answer(&format!("{error:#}")))
}

/// All its lives. An error: it could not even begin.
async fn lives(container: &Container, task: &Task, signals: &mut Signals, state: &mut State) -> Result<()> {
    let record = &container.record;
    let forwarder = Forwarder::open(record.address, &record.ports).await?;
    state.ports = forwarder.ports().to_vec();
    let mut waited = Duration::ZERO;
    loop {
        let born = Instant::now();
        let begun = begin(container, task, signals, state).await;
        let first = state.restarts == 0;
        if first && begun.is_ok() {
            answer(STARTED);
        }
        let end = match begun {
            Ok(None) => until_end(task, signals, &mut Nobody, |signal| request(container, signal)).await?,
            Ok(Some(signal)) => {
                state.ended = Some(Ended::asked_for(signal));
                return Ok(());
            }
            Err(error) if first => return Err(error),
            Err(error) => End { ended: failed(&error), stopped: false },
        };
        task.delete().await?;
        // A request counts from when it was written, whether or not its signal has come through.
        let stopped = end.stopped || container.stop_request()?.is_some();
        let life =
            Life { exit_code: end.ended.exit_code, stopped, restarts: state.restarts, lasted: born.elapsed(), waited };
        state.ended = Some(end.ended);
        let Next::RestartAfter(wait) = restart::next(record.restart, life) else { return Ok(()) };
        state.phase = Phase::Restarting;
        container.write_state(state)?;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = signals.next() => return Ok(()),
        }
        waited = wait;
        state.restarts += 1;
    }
}

/// Some signal: it was asked to stop before it was started.
async fn begin(container: &Container, task: &Task, signals: &mut Signals, state: &mut State) -> Result<Option<u32>> {
    let shim = task.shim().await?;
    tokio::select! {
        created = task.create(&shim, container, standard(container)?) => created?,
        // Compiling takes a while, and nobody has to wait for it.
        signal = signals.next() => return Ok(Some(signal)),
    }
    shim.start(&task.id, "").await.map_err(super::task::plain)?;
    state.phase = Phase::Running;
    state.started_at = Some(Timestamp::now());
    container.write_state(state)?;
    Ok(None)
}

/// Output to the log; input, if it is kept open, from a fifo that nobody writes to.
fn standard(container: &Container) -> Result<Standard> {
    let record = &container.record;
    let log = CriLog { path: container.log(), max_size: Some(LOG_SIZE), max_files: LOG_FILES };
    let log = OutputUri::Cri(log).to_string();
    let stdin = container.dir().join("stdin");
    if record.interactive && !stdin.exists() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        mkfifoat(CWD, &stdin, Mode::RUSR | Mode::WUSR).with_context(|| format!("make {}", stdin.display()))?;
    }
    Ok(Standard {
        stdin: if record.interactive { stdin.display().to_string() } else { String::new() },
        stderr: if record.terminal { String::new() } else { log.clone() },
        stdout: log,
        terminal: record.terminal,
    })
}

/// To whoever started us, who reads to the end. Once.
fn answer(text: &str) {
    // One that went away does not wait for it.
    let _ = writeln!(std::io::stdout(), "{text}");
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

fn failed(error: &anyhow::Error) -> Ended {
    Ended { exit_code: 125, oom_killed: false, message: Some(format!("{error:#}")), finished_at: Timestamp::now() }
}
