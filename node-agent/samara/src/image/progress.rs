//! A bar on a terminal; one line in a pipe.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use samara_images::{Digest, Progress, ProgressEvent};

use crate::format::bytes;

const REDRAWN_EVERY: Duration = Duration::from_millis(200);

/// One bar for all layers of a pull, or all blobs of a push. It goes with this.
#[derive(Debug)]
pub(crate) struct Shown {
    what: String,
    quiet: bool,
    bar: ProgressBar,
    moved: Mutex<HashMap<Digest, u64>>,
}

impl Shown {
    pub(crate) fn new(what: impl ToString, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        if !bar.is_hidden() {
            // Also while nothing comes.
            bar.enable_steady_tick(REDRAWN_EVERY);
        }
        let what = what.to_string();
        bar.set_prefix(what.clone());
        Self { what, quiet, bar, moved: Mutex::default() }
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Self::new("", true)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Shown {
    fn report(&self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Resolved { size, .. } => self.bar.set_length(size),
            ProgressEvent::Fetching { digest, fetched: moved, .. }
            | ProgressEvent::Sending { digest, sent: moved, .. } => {
                let mut all = self.moved.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                // Who reads a pipe wants to know why nothing comes.
                if all.is_empty() && !self.quiet && self.bar.is_hidden() {
                    eprintln!("{} ({})", self.what, bytes(self.bar.length().unwrap_or(0)));
                }
                all.insert(digest.clone(), moved);
                self.bar.set_position(all.values().sum());
            }
            ProgressEvent::Unpacking { .. } => self.bar.set_message("unpacking"),
            _ => {}
        }
    }
}
