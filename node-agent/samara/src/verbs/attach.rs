//! `samara attach`: a detached container's output from now on, its input, and its end.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::each::runtime;
use super::logs;
use crate::container::{Container, Shelf};
use crate::format::Reader;
use crate::place::{Place, must_be_root};
use crate::supervise::streams::signal_of;
use crate::supervise::terminal::{self, Raw};
use crate::supervise::{Signals, Task};

/// What `samara attach` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara attach web                      # Ctrl-C stops it, as if it had been run without -d
  samara attach --sig-proxy=false web    # Ctrl-C only leaves it
  echo line | samara attach filter       # into one that was run with -d -i

Ctrl-P Ctrl-Q leaves a container that has a terminal (run -d -i -t). What it wrote before: `samara logs`.
The exit code is the guest's; 0 if it was left.")]
pub(crate) struct AttachArgs {
    /// Name or id
    container: String,
    /// Pass nothing on to its standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to it; without it they end this verb alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    place: Place,
}

/// Ctrl-P, Ctrl-Q.
const LEAVE: [u8; 2] = [0x10, 0x11];

pub(crate) fn main(args: AttachArgs) -> Result<ExitCode> {
    must_be_root("attach")?;
    let place = args.place.absolute()?;
    let container = Shelf::of(&place).find(&args.container)?;
    if container.pid()?.is_none() {
        bail!("{} does not run: `samara start {0}` starts it again", container.record.name);
    }
    let runtime = runtime()?;
    let code = runtime.block_on(run(&place, &container, &args))?;
    // A thread may be waiting for a key that nobody presses.
    runtime.shutdown_background();
    Ok(code)
}

async fn run(place: &Place, container: &Container, args: &AttachArgs) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let task = Task::of(place, container)?;
    let shim = task.living().await.context("its front does not answer")?;
    // Before anything is passed on: the answer to it is to be seen.
    let follower = logs::Follower::from_now(container)?;
    let mut output = tokio::task::spawn_blocking(move || follower.run());
    let stdin = container.dir().join("stdin");
    let has_input = stdin.exists() && !args.no_stdin;
    let terminal =
        container.record.terminal || container.spec()?.process().as_ref().and_then(|p| p.terminal()) == Some(true);
    let raw = if terminal && has_input { Raw::enter()? } else { None };
    let (press, mut pressed) = mpsc::unbounded_channel();
    if has_input {
        let to = OpenOptions::new().write(true).open(&stdin).context("open the guest's standard input")?;
        let watched = raw.is_some();
        // A thread of its own that nobody waits for: a read from a terminal cannot be called off.
        std::thread::spawn(move || {
            // Whoever would hear of a key is gone with the container.
            let press = |key| press.send(key).unwrap_or_default();
            let _ = pass_on(io::stdin().lock(), to, if watched { Some(&press) } else { None });
        });
    }
    let mut resized = signal(SignalKind::window_change())?;
    if let (true, Some((columns, rows))) = (terminal, terminal::size()) {
        drop(shim.resize_pty(&task.id, "", columns, rows).await);
    }
    let waiting = shim.wait(&task.id, "");
    tokio::pin!(waiting);
    let (mut listens, mut shows) = (has_input, true);
    let exit = loop {
        tokio::select! {
            shown = &mut output, if shows => match shown?? {
                // Whoever read it went away, as `head` does.
                Reader::Left => return Ok(ExitCode::SUCCESS),
                Reader::Reads => shows = false,
            },
            exit = &mut waiting => break exit.map_err(crate::supervise::task::plain)?,
            signal = signals.next() => match args.sig_proxy {
                true => task.kill(signal).await?,
                false => return Ok(ExitCode::SUCCESS),
            },
            key = pressed.recv(), if listens => match key {
                Some(Key::Signal(signal)) if args.sig_proxy => task.kill(signal).await?,
                Some(Key::Leave | Key::Signal(_)) => {
                    drop(raw);
                    eprintln!("\nsamara: left {}, which runs on", container.record.name);
                    return Ok(ExitCode::SUCCESS);
                }
                // Its input is at its end; its output goes on.
                None => listens = false,
            },
            _ = resized.recv(), if terminal => if let Some((columns, rows)) = terminal::size() {
                drop(shim.resize_pty(&task.id, "", columns, rows).await);
            },
        }
    };
    if shows {
        output.await??;
    }
    drop(raw);
    Ok(ExitCode::from(u8::try_from(exit.code).unwrap_or(255)))
}

/// A key that means something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// The second of the two.
    Leave,
    /// Passed on, and a signal.
    Signal(u32),
}

/// Copies until the end or, with somebody to tell, until the keys to leave; those are not passed on.
fn pass_on(mut from: impl Read, mut to: impl Write, press: Option<&dyn Fn(Key)>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    // The first of the keys, held back until it is known what follows.
    let mut held = false;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let mut out = Vec::with_capacity(read + 1);
        for byte in &buffer[..read] {
            let Some(press) = press else {
                out.push(*byte);
                continue;
            };
            if held && *byte == LEAVE[1] {
                to.write_all(&out)?;
                press(Key::Leave);
                return Ok(());
            }
            if let Some(signal) = signal_of(*byte) {
                press(Key::Signal(signal));
            }
            if std::mem::take(&mut held) {
                out.push(LEAVE[0]);
            }
            if *byte == LEAVE[0] {
                held = true;
            } else {
                out.push(*byte);
            }
        }
        to.write_all(&out)?;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What is passed on, and which keys are told of.
    fn passed(text: &[u8]) -> (Vec<u8>, Vec<Key>) {
        let (mut out, keys) = (Vec::new(), RefCell::new(Vec::new()));
        pass_on(text, &mut out, Some(&|key| keys.borrow_mut().push(key))).unwrap();
        (out, keys.into_inner())
    }

    #[test]
    fn the_two_keys_leave_and_anything_else_is_passed_on() {
        let p = LEAVE[0];
        assert_eq!(passed(b"abc"), (b"abc".to_vec(), vec![]));
        assert_eq!(passed(&[b'a', p, LEAVE[1], b'b']), (b"a".to_vec(), vec![Key::Leave]));
        assert_eq!(passed(&[p, b'x']), (vec![p, b'x'], vec![]));
        assert_eq!(passed(&[p, p, LEAVE[1]]), (vec![p], vec![Key::Leave]));
        assert_eq!(passed(b"a\x03\x1c"), (b"a\x03\x1c".to_vec(), vec![Key::Signal(2), Key::Signal(3)]));
        let mut out = Vec::new();
        pass_on(&LEAVE[..], &mut out, None).unwrap();
        assert_eq!(out, LEAVE, "nobody is at a terminal");
    }
}
