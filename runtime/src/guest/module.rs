//! Core modules with WASI preview 1.

use std::fmt;

use wasmtime::{Engine, InstancePre, Linker, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, I32Exit};

use super::end::End;
use super::memory::Share;
use super::stop::{self, Notice, Noticing};
use super::surroundings::Surroundings;
use crate::fs::{self, FileCalls, Root, RootedModule};
use crate::{Exit, Stop, World};

/// State of the one instance.
pub(crate) struct State {
    wasi: WasiP1Ctx,
    root: Root,
    memory: Share,
    notice: Notice,
}

impl State {
    fn new(surroundings: &Surroundings) -> wasmtime::Result<Self> {
        let told = &surroundings.told;
        let mut wasi = surroundings.wasi();
        wasi.args(&told.args).envs(&told.env).initial_cwd(&told.cwd);
        Ok(Self {
            wasi: wasi.preopened_dir(&surroundings.root_path, "/", FsPerms::ReadWrite)?.build_p1(),
            root: surroundings.root.clone(),
            memory: surroundings.budget.share(),
            notice: surroundings.notice.clone(),
        })
    }
}

impl RootedModule for State {
    fn root(&self) -> Root {
        self.root.clone()
    }

    fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl Noticing for State {
    fn notice(&self) -> &Notice {
        &self.notice
    }
}

/// All that a module may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |state: &mut State| &mut state.wasi)?;
    fs::shadow_module(&mut linker)?;
    stop::add_to_module(&mut linker)?;
    // wasmtime-wasi takes codes above 125 for a mistake; a process may end with any.
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    Ok(linker)
}

/// Names of all that a module may import.
#[cfg(feature = "compile")]
pub(crate) fn imports(engine: &Engine, linker: &Linker<State>) -> wasmtime::Result<Vec<(String, String)>> {
    let surroundings = Surroundings::new(World::default(), FileCalls::OnThread, &Stop::new().1)?;
    let mut store = Store::new(engine, State::new(&surroundings)?);
    let names = linker.iter(&mut store).map(|(module, name, _)| (module.to_owned(), name.to_owned()));
    Ok(names.collect())
}

/// Runs `_start` to its end.
pub(crate) fn run(module: &InstancePre<State>, engine: &Engine, world: World, asked: &Stop) -> Exit {
    if module.module().imports().any(|import| import.module() == stop::VERSIONED) {
        asked.listen();
    }
    super::alone(world, asked, async |surroundings: &Surroundings| {
        let mut store = Store::new(engine, State::new(surroundings)?);
        store.limiter(|state| &mut state.memory);
        let instance = module.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await?;
        Ok(End::Exited(0))
    })
}
