//! Components: the state and imports of every instance, and `wasi:cli/command`.

use std::fmt;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::end::End;
use super::memory::Share;
use super::surroundings::{Local, Surroundings};
use crate::fs::{self, Root, RootedComponent};
use crate::net::{self, Net, Networked};
use crate::{Exit, Stop, World};

/// State of one instance.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    local: Local,
    table: ResourceTable,
    root: Root,
    memory: Share,
}

/// Handles (files, streams, sockets, fields) one instance may hold at a time.
const HANDLES: usize = 100_000;

impl State {
    pub(crate) fn new(surroundings: &Surroundings, local: &Local) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self {
            wasi: surroundings.wasi().insecure_random_seed(local.seed()).build(),
            http: WasiHttpCtx::new(),
            local: local.clone(),
            table,
            root: surroundings.root.clone(),
            memory: surroundings.budget.share(),
        }
    }

    /// A store whose memory is counted.
    pub(crate) fn store(self, engine: &Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|state| &mut state.memory);
        store
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.local.outbound }
    }
}

impl RootedComponent for State {
    fn root(&self) -> Root {
        self.root.clone()
    }
}

impl Networked for State {
    fn net(&mut self) -> &mut Net {
        &mut self.local.net
    }
}

/// All that a component may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    fs::shadow_component(&mut linker)?;
    net::shadow(&mut linker)?;
    Ok(linker)
}

/// Runs `wasi:cli/run` to its end.
pub(crate) fn run(command: &CommandPre<State>, engine: &Engine, world: World, stop: &Stop) -> Exit {
    super::alone(world, stop, async |surroundings: &Surroundings| {
        let mut store = State::new(surroundings, &surroundings.local()).store(engine);
        let instance = command.instantiate_async(&mut store).await?;
        let result = instance.wasi_cli_run().call_run(&mut store).await?;
        Ok(End::Exited(if result.is_ok() { 0 } else { 1 }))
    })
}
