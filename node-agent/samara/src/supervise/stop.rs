//! Running until the end, and ending sooner when asked to.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep_until};

use super::{Signals, Task};
use crate::container::{Container, Ended, StopRequest};

/// What those who are attached tell while the process runs.
pub(crate) trait Side {
    /// Never returns if there is nothing more to tell. Cancel by dropping.
    async fn next(&mut self) -> Told;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    InputEnded,
    /// Nobody will see any more of what it writes.
    Unread,
    /// A key asked for this signal.
    Interrupted(u32),
    /// Columns and rows.
    Resized(u32, u32),
}

/// Nobody is attached.
#[derive(Debug)]
pub(super) struct Nobody;

impl Side for Nobody {
    async fn next(&mut self) -> Told {
        std::future::pending().await
    }
}

/// How the end came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) ended: Ended,
    /// Somebody asked for it.
    pub(crate) stopped: bool,
}

/// Waits for the end. The first signal to us, or that nobody reads its output any more, asks the guest to stop, and after the grace kills it; the second kills it
/// at once.
pub(crate) async fn until_end(
    task: &Task,
    signals: &mut Signals,
    side: &mut impl Side,
    request: impl Fn(u32) -> Result<StopRequest>,
) -> Result<End> {
    let waiting = task.wait();
    tokio::pin!(waiting);
    let mut deadline: Option<Instant> = None;
    loop {
        let signal = tokio::select! {
            biased;
            ended = &mut waiting => return Ok(End { ended: ended?, stopped: deadline.is_some() }),
            signal = signals.next() => signal,
            () = at(deadline) => {
                task.kill(9).await?;
                // Nothing is left to be done but to wait.
                deadline = deadline.map(|_| Instant::now() + FOREVER);
                continue;
            }
            told = side.next() => match told {
                Told::Interrupted(signal) => signal,
                // What the kernel does to a program whose reader went away. It is asked once.
                Told::Unread if deadline.is_some() => continue,
                Told::Unread => TERM,
                Told::InputEnded | Told::Resized(..) => {
                    tell(task, told).await?;
                    continue;
                }
            },
        };
        let request = request(signal)?;
        let at_once = deadline.is_some() || request.grace == 0;
        task.kill(if at_once { 9 } else { request.signal }).await?;
        deadline = Some(Instant::now() + Duration::from_secs(request.grace.into()));
    }
}

const TERM: u32 = 15;
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn tell(task: &Task, told: Told) -> Result<()> {
    let shim = task.shim().await?;
    // It may have ended in this moment, which the wait says.
    match told {
        Told::InputEnded => drop(shim.close_io(&task.id, &task.exec_id).await),
        // Dealt with before.
        Told::Interrupted(_) | Told::Unread => {}
        Told::Resized(columns, rows) => drop(shim.resize_pty(&task.id, &task.exec_id, columns, rows).await),
    }
    Ok(())
}

/// What a signal to the supervisor of a container means: what `samara stop` wrote, else what the container's user asked.
pub(super) fn request(container: &Container, signal: u32) -> Result<StopRequest> {
    if let Some(written) = container.stop_request()? {
        return Ok(written);
    }
    let record = &container.record;
    // Ctrl-C stays what it is; all else is a wish to stop.
    let signal = if signal == 2 { 2 } else { record.stop_signal };
    Ok(StopRequest { signal, grace: record.stop_timeout })
}
