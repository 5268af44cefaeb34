//! The WASI context of each instance, made from the one world of the process.

use rand::Rng as _;
use std::io;

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::memory::Budget;
use crate::fs::Root;
use crate::stdio::{Input, Sink};
use crate::{Stop, World};

/// A [`World`] whose files are open and whose counters run: all instances of the process are made from it.
#[derive(Debug)]
pub(crate) struct Surroundings {
    args: Vec<String>,
    env: Vec<(String, String)>,
    cwd: String,
    root_path: std::path::PathBuf,
    pub(crate) root: Root,
    stdin: Input,
    stdout: Sink,
    pub(crate) stderr: Sink,
    pub(crate) budget: Budget,
}

/// Whether a host call may block the thread it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileCalls {
    /// The guest is alone on its thread.
    OnThread,
    /// Other guests run on the same thread.
    OnPool,
}

impl Surroundings {
    /// Opens the root.
    pub(crate) fn new(world: World, stop: &Stop) -> io::Result<Self> {
        let terminal = world.terminal;
        let cwd = if world.cwd.is_empty() { "/".into() } else { world.cwd };
        let mut env = world.env;
        if cwd != "/" && !env.iter().any(|(name, _)| name == "PWD") {
            env.push(("PWD".into(), cwd.clone()));
        }
        Ok(Self {
            args: world.args,
            env,
            cwd,
            root: Root::open(&world.root)?,
            root_path: world.root,
            stdin: Input::new(world.stdin, terminal, stop.stdin_closed()),
            stdout: Sink::new(world.stdout, terminal),
            stderr: Sink::new(world.stderr, terminal),
            budget: Budget::new(world.memory_limit),
        })
    }

    /// The sandbox: `/` and its volumes, arguments, environment, streams, clocks, random numbers of the kernel. No
    /// network beyond what the socket layer gives.
    pub(crate) fn wasi(&self, files: FileCalls) -> wasmtime::Result<WasiCtxBuilder> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(files == FileCalls::OnThread)
            .args(&self.args)
            .envs(&self.env)
            .initial_cwd(&self.cwd)
            .stdin(self.stdin.clone())
            .stdout(self.stdout.clone())
            .stderr(self.stderr.clone())
            .secure_random(kernel())
            .insecure_random(kernel())
            .insecure_random_seed(u128::from(kernel().next_u64()) << 64 | u128::from(kernel().next_u64()))
            .preopened_dir(&self.root_path, "/", FsPerms::ReadWrite)?
            .inherit_network()
            .allow_ip_name_lookup(true)
            .allow_tcp(true)
            .allow_udp(true);
        Ok(wasi)
    }
}

/// Random numbers from the kernel: without state of its own, it is never duplicated by a fork.
fn kernel() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}
