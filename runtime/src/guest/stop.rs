//! `samara:process/stop`: how a guest hears that it is to end. The interface is described in `wit/process.wit`.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use wasmtime::{Caller, Linker, component};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::{Pollable, subscribe};

use crate::stop::Asked;

/// Name of the interface without its version.
pub(crate) const INTERFACE: &str = "samara:process/stop";
/// The interface, and the module by which core modules import its functions.
pub(crate) const VERSIONED: &str = "samara:process/stop@0.1.0";

/// A guest's ear.
#[derive(Debug, Clone)]
pub(crate) struct Notice(watch::Receiver<Option<Asked>>);

impl Notice {
    pub(crate) fn new(asked: watch::Receiver<Option<Asked>>) -> Self {
        Self(asked)
    }

    fn asked(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Nanoseconds; the largest number before anybody has asked.
    fn grace_left(&self, now: Instant) -> u64 {
        self.0.borrow().map_or(u64::MAX, |asked| nanoseconds(asked.left(now)))
    }

    async fn wait(&mut self) {
        if self.0.wait_for(Option::is_some).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[wasmtime_wasi::async_trait]
impl Pollable for Notice {
    async fn ready(&mut self) {
        self.wait().await;
    }
}

/// A store's state with an ear.
pub(crate) trait Noticing: Send + 'static {
    fn notice(&self) -> &Notice;
}

/// Defines the interface for components.
pub(crate) fn add_to_component<T: Noticing + WasiView>(linker: &mut component::Linker<T>) -> wasmtime::Result<()> {
    let mut stop = linker.instance(VERSIONED)?;
    stop.func_wrap("asked", |store, (): ()| Ok((store.data().notice().asked(),)))?;
    stop.func_wrap("grace-left", |store, (): ()| Ok((store.data().notice().grace_left(Instant::now()),)))?;
    stop.func_wrap_async("wait", |store, (): ()| {
        let mut notice = store.data().notice().clone();
        Box::new(async move {
            notice.wait().await;
            Ok((notice.grace_left(Instant::now()),))
        })
    })?;
    stop.func_wrap("subscribe", |mut store, (): ()| {
        let notice = store.data().notice().clone();
        let table = store.data_mut().ctx().table;
        let notice = table.push(notice)?;
        Ok((subscribe(table, notice)?,))
    })
}

/// Defines what of it core modules can use.
pub(crate) fn add_to_module<T: Noticing>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.func_wrap(VERSIONED, "asked", |caller: Caller<'_, T>| i32::from(caller.data().notice().asked()))?;
    linker.func_wrap(VERSIONED, "grace-left", |caller: Caller<'_, T>| {
        caller.data().notice().grace_left(Instant::now()).cast_signed()
    })?;
    linker.func_wrap_async(VERSIONED, "wait", |caller: Caller<'_, T>, (): ()| {
        let mut notice = caller.data().notice().clone();
        Box::new(async move {
            notice.wait().await;
            notice.grace_left(Instant::now()).cast_signed()
        })
    })?;
    Ok(())
}
