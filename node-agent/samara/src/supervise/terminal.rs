//! This terminal, while a guest has it.

use std::io::{IsTerminal as _, stdin, stdout};

use anyhow::{Context as _, Result, bail};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode; what was before comes back when this goes.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Every key goes to the guest, Ctrl-C included. `None` without a terminal on standard input.
    pub(crate) fn enter() -> Result<Option<Self>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(stdin()).context("read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("make the terminal raw")?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows, if standard output is a terminal.
pub(crate) fn size() -> Option<(u32, u32)> {
    let size = tcgetwinsize(stdout()).ok()?;
    Some((size.ws_col.into(), size.ws_row.into())).filter(|(columns, rows)| *columns > 0 && *rows > 0)
}

/// Docker's rule: with both -i and -t the keys must come from a terminal.
pub(crate) fn check(interactive: bool, terminal: bool) -> Result<()> {
    if interactive && terminal && !stdin().is_terminal() {
        bail!("-t with -i needs a terminal on standard input, and there is none here: leave -t out");
    }
    Ok(())
}
