//! Components: the state and imports of every instance, and `wasi:cli/command`.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::end::End;
use super::memory::Share;
use super::stop::{self, Notice, Noticing};
use super::surroundings::{Local, Surroundings, Told};
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
    notice: Notice,
    told: Arc<Told>,
    /// What `wasi:config/store` says: the environment.
    config: Arc<WasiConfigVariables>,
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
            notice: surroundings.notice.clone(),
            told: Arc::clone(&surroundings.told),
            config: Arc::clone(&surroundings.config),
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

impl Noticing for State {
    fn notice(&self) -> &Notice {
        &self.notice
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
    shadow_environment(&mut linker)?;
    stop::add_to_component(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut State| WasiConfig::from(&*state.config))?;
    Ok(linker)
}

/// Told when it is asked for, instead of copied into each instance: most requests of an http guest never ask.
fn shadow_environment(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut environment = linker.instance("wasi:cli/environment@0.2.12")?;
    environment.func_wrap("get-environment", |store, (): ()| Ok((store.data().told.env.clone(),)))?;
    environment.func_wrap("get-arguments", |store, (): ()| Ok((store.data().told.args.clone(),)))?;
    environment.func_wrap("initial-cwd", |store, (): ()| Ok((Some(store.data().told.cwd.clone()),)))
}

/// Runs `wasi:cli/run` to its end.
pub(crate) fn run(command: &CommandPre<State>, engine: &Engine, world: World, asked: &Stop) -> Exit {
    let component = command.instance_pre().component().component_type();
    if component.imports(engine).any(|(name, _)| name.split('@').next() == Some(stop::INTERFACE)) {
        asked.listen();
    }
    super::alone(world, asked, async |surroundings: &Surroundings| {
        let mut store = State::new(surroundings, &surroundings.local()).store(engine);
        let instance = command.instantiate_async(&mut store).await?;
        let result = instance.wasi_cli_run().call_run(&mut store).await?;
        Ok(End::Exited(if result.is_ok() { 0 } else { 1 }))
    })
}
