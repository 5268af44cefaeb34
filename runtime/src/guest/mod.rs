//! Guests: what each kind sees, how it runs and how its end is understood.

pub(crate) mod component;
pub(crate) mod end;
pub(crate) mod memory;
pub(crate) mod module;
pub(crate) mod stop;
mod surroundings;

pub(crate) use surroundings::{Local, Surroundings};

use crate::fs::FileCalls;
use crate::{Exit, Stop, World};
use end::End;

/// Runs a guest that has the process for itself.
fn alone<F>(world: World, stop: &Stop, guest: F) -> Exit
where
    F: AsyncFnOnce(&Surroundings) -> wasmtime::Result<End>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::not_started(format!("make the event loop: {error}")),
    };
    let surroundings = match Surroundings::new(world, FileCalls::OnThread, stop) {
        Ok(surroundings) => surroundings,
        Err(error) => return Exit::not_started(format!("open the root directory: {error}")),
    };
    let end = runtime.block_on(guest(&surroundings)).unwrap_or_else(|error| End::of(&error));
    end.report(&surroundings.stderr);
    // Look-ups may still be under way on the pool; the process is about to end.
    runtime.shutdown_background();
    end.exit()
}
