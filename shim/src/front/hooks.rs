//! A container's hooks, at the three places of its life at which they are run.

mod run;

use std::sync::OnceLock;

use oci_spec::runtime::Spec;

use super::config;
use super::error::TaskError;
use super::outline::{self, HookOutline, HooksOutline};
use samara_shim_client::bundle::Bundle;

pub use run::HookError;
pub(crate) use run::{State, run_all};

/// Known to the front that created the container; another one reads them when it needs them.
#[derive(Debug, Default)]
pub(crate) struct Hooks(OnceLock<HooksOutline>);

impl Hooks {
    /// Those of a container that is being created.
    pub(crate) fn know(&self, hooks: HooksOutline) {
        // A second try of the same creation knows the same.
        let _ = self.0.set(hooks);
    }

    /// `prestart` and `createRuntime`, of a container that is set up.
    pub(crate) async fn created(&self, spec: &Spec, bundle: &Bundle, id: &str, pid: i32) -> Result<(), HookError> {
        let Some(HooksOutline { created, .. }) = self.0.get().filter(|hooks| !hooks.created.is_empty()) else {
            return Ok(());
        };
        let state = State::new(spec, bundle, id, "created", Some(pid));
        aside(created.clone(), move |hooks| run::run(hooks, &state)).await.unwrap_or(Ok(()))
    }

    /// `poststart`.
    pub(crate) async fn started(&self, bundle: &Bundle, id: &str, pid: i32) {
        self.after(bundle, id, |hooks| &hooks.started, "running", Some(pid)).await;
    }

    /// `poststop`: also of one whose creation failed in its hooks, because the first of them may have begun something.
    pub(crate) async fn deleted(&self, bundle: &Bundle, id: &str) {
        self.after(bundle, id, |hooks| &hooks.deleted, "stopped", None).await;
    }

    /// Failures are told to the log: what they come after has happened.
    async fn after(
        &self,
        bundle: &Bundle,
        id: &str,
        which: fn(&HooksOutline) -> &Vec<HookOutline>,
        status: &'static str,
        pid: Option<i32>,
    ) {
        let known = match self.get(bundle) {
            Ok(known) => which(known),
            Err(error) => return tracing::warn!(id, error = super::error::chain(&error), "hooks"),
        };
        if known.is_empty() {
            return;
        }
        match config::read(bundle) {
            Ok(spec) => {
                let state = State::new(&spec, bundle, id, status, pid);
                let _ = aside(known.clone(), move |hooks| run_all(hooks, &state)).await;
            }
            Err(error) => tracing::warn!(id, error = super::error::chain(&error), "hooks"),
        }
    }

    fn get(&self, bundle: &Bundle) -> Result<&HooksOutline, TaskError> {
        if let Some(known) = self.0.get() {
            return Ok(known);
        }
        let read = outline::hooks(&config::read(bundle)?)?;
        Ok(self.0.get_or_init(|| read))
    }
}

/// Somebody waits for a program: not the front's one thread.
async fn aside<T: Send + 'static>(
    hooks: Vec<HookOutline>,
    run: impl FnOnce(&[HookOutline]) -> T + Send + 'static,
) -> Option<T> {
    let done = tokio::task::spawn_blocking(move || run(&hooks)).await;
    done.inspect_err(|error| tracing::error!(%error, "hooks")).ok()
}
