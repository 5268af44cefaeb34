//! `samara run` without `-d`: one life, with this terminal's streams.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use samara_shim_client::client::Shim;

use super::ports::Forwarder;
use super::stop::{request, until_end};
use super::streams::{Copies, Keys, Streams};
use super::terminal::{self, Raw};
use super::{Signals, Task};
use crate::container::{Container, Ended, Held, Phase, Shelf, State, Supervisor, ended};
use crate::place::Place;
use crate::tell::complain;

/// Runs it to its end. The guest's exit code is ours, unless something of ours failed.
pub(crate) async fn run(place: &Place, shelf: &Shelf, container: &Container, _held: Held) -> Result<ExitCode> {
    let task = Task::of(place, container)?;
    let mut signals = Signals::listen()?;
    let mut state = State { supervisor: Some(Supervisor::me()?), ..State::default() };
    container.write_state(&state)?;
    let begun = begin(place, container, &task, &mut signals, &mut state).await;
    let lived = match begun {
        Ok(Begun::Started(started)) => live(container, &task, *started, &mut signals, &mut state).await,
        Ok(Begun::Interrupted(signal)) => {
            state.ended = Some(Ended::asked_for(signal));
            Ok(())
        }
        Err(error) => {
            if let Err(left) = task.clear().await {
                complain(format_args!("end the container's front: {left:#}"));
            }
            // It never ran, so there is nothing to look at.
            shelf.remove(container)?;
            return Err(error);
        }
    };
    // From here on it is there to be looked at, whatever went wrong with us.
    let cleared = task.clear().await.context("end the container's front");
    state.phase = Phase::Exited;
    if state.ended.is_none() {
        state.ended = container.bundle().exit_record().ok().flatten().as_ref().map(ended);
    }
    let kept = if container.record.remove { shelf.remove(container) } else { container.write_state(&state) };
    lived.and(kept).and(cleared)?;
    Ok(ExitCode::from(state.ended.map_or(u8::MAX, |ended| ended.exit_code)))
}

/// What came of a beginning.
enum Begun {
    Started(Box<Started>),
    Interrupted(u32),
}

/// All that is held while it runs.
struct Started {
    shim: Shim,
    copies: Copies,
    raw: Option<Raw>,
    _streams: Streams,
    _ports: Forwarder,
}

async fn begin(
    place: &Place,
    container: &Container,
    task: &Task,
    signals: &mut Signals,
    state: &mut State,
) -> Result<Begun> {
    let record = &container.record;
    let ports = Forwarder::open(record.address, &record.ports).await?;
    state.ports = ports.ports().to_vec();
    let streams = Streams::make(&place.streams(), record.interactive, record.terminal)?;
    let shim = task.shim().await?;
    tokio::select! {
        created = task.create(&shim, container, streams.standard()) => created?,
        // Compiling takes a while, and nobody has to wait for it.
        signal = signals.next() => return Ok(Begun::Interrupted(signal)),
    }
    let raw = if record.terminal && record.interactive { Raw::enter()? } else { None };
    // With --rm there will be nobody to read a log.
    let log = (!record.remove).then(|| container.log());
    let watched = if raw.is_some() { Keys::Watched } else { Keys::Unwatched };
    let copies = streams.copy(log.as_deref(), watched)?;
    shim.start(&task.id, "").await.map_err(super::task::plain)?;
    Ok(Begun::Started(Box::new(Started { shim, copies, raw, _streams: streams, _ports: ports })))
}

async fn live(
    container: &Container,
    task: &Task,
    mut started: Started,
    signals: &mut Signals,
    state: &mut State,
) -> Result<()> {
    if let (true, Some((columns, rows))) = (container.record.terminal, terminal::size()) {
        drop(started.shim.resize_pty(&task.id, "", columns, rows).await);
    }
    state.phase = Phase::Running;
    state.started_at = Some(Timestamp::now());
    container.write_state(state)?;
    let end = until_end(task, signals, &mut started.copies, |signal| request(container, signal)).await?;
    state.ended = Some(end.ended.clone());
    let shown = started.copies.finish().await;
    drop(started.raw);
    if let Some(message) = end.ended.untold() {
        complain(message);
    }
    shown
}
