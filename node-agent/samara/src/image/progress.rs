//! A bar on a terminal; in a pipe, where only the outcome counts, nothing.

use std::collections::HashMap;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use samara_images::{Digest, Progress, ProgressEvent};

/// One bar for all layers of a pull.
#[derive(Debug)]
pub(crate) struct Shown {
    bar: ProgressBar,
    fetched: Mutex<HashMap<Digest, u64>>,
}

impl Shown {
    pub(crate) fn new(what: impl ToString, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_string());
        Self { bar, fetched: Mutex::default() }
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Self::new("", true)
    }

    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Shown {
    fn report(&self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Resolved { size, .. } => self.bar.set_length(size),
            ProgressEvent::Fetching { digest, fetched, .. } => {
                let mut all = self.fetched.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.insert(digest.clone(), fetched);
                self.bar.set_position(all.values().sum());
            }
            ProgressEvent::Unpacking { .. } => self.bar.set_message("unpacking"),
            _ => {}
        }
    }
}
