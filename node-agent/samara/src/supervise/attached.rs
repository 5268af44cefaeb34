//! `samara run` without `-d`: one life, with this terminal's streams.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::ports::Forwarder;
use super::stop::{End, request, until_end};
use super::streams::{Keys, Streams};
use super::terminal::{self, Raw};
use super::{Signals, Task};
use crate::container::{Container, Ended, Phase, Shelf, State, Supervisor};
use crate::place::Place;
use crate::tell::complain;

/// Runs it to its end. The guest's exit code is ours.
pub(crate) async fn run(place: &Place, shelf: &Shelf, container: &Container) -> Result<ExitCode> {
    let record = &container.record;
    let task = Task::of(place, container)?;
    let mut state = State { supervisor: Some(Supervisor::me()?), ..State::default() };
    container.write_state(&state)?;
    let lived = live(place, container, &task, &mut state).await;
    let cleared = task.clear().await.context("end the container's front");
    match lived {
        Ok(end) => {
            if let Some(message) = end.ended.untold() {
                complain(message);
            }
            state.phase = Phase::Exited;
            state.ended = Some(end.ended.clone());
            if record.remove {
                shelf.remove(container)?
            } else {
                container.write_state(&state)?
            }
            cleared?;
            Ok(ExitCode::from(end.ended.exit_code))
        }
        Err(error) => {
            // It never ran, so there is nothing to look at.
            shelf.remove(container)?;
            Err(error)
        }
    }
}

async fn live(place: &Place, container: &Container, task: &Task, state: &mut State) -> Result<End> {
    let record = &container.record;
    let mut signals = Signals::listen()?;
    let forwarder = Forwarder::open(record.address, &record.ports).await?;
    state.ports = forwarder.ports().to_vec();
    let streams = Streams::make(&place.streams(), record.interactive, record.terminal)?;
    let shim = tokio::select! {
        shim = task.create(container, streams.standard()) => shim?,
        // Compiling takes a while, and nobody has to wait for it.
        signal = signals.next() => return Ok(End { ended: interrupted(signal), stopped: true }),
    };
    let raw = if record.terminal && record.interactive { Raw::enter()? } else { None };
    // With --rm there will be nobody to read a log.
    let log = (!record.remove).then(|| container.log());
    let watched = if raw.is_some() { Keys::Watched } else { Keys::Unwatched };
    let mut copies = streams.copy(log.as_deref(), watched)?;
    shim.start(&task.id, "").await.map_err(super::task::plain)?;
    if let (true, Some((columns, rows))) = (record.terminal, terminal::size()) {
        drop(shim.resize_pty(&task.id, "", columns, rows).await);
    }
    state.phase = Phase::Running;
    state.started_at = Some(Timestamp::now());
    container.write_state(state)?;
    let end = until_end(task, &mut signals, &mut copies, |signal| request(container, signal)).await?;
    copies.finish().await?;
    drop(raw);
    Ok(end)
}

fn interrupted(signal: u32) -> Ended {
    Ended {
        exit_code: 128 + u8::try_from(signal).unwrap_or(0),
        oom_killed: false,
        message: None,
        finished_at: Timestamp::now(),
    }
}
