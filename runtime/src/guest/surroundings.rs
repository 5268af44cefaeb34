//! The WASI context of each instance, made from the one world of the process.

use rand::Rng as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_config::WasiConfigVariables;

use super::memory::Budget;
use super::stop::Notice;
use crate::fs::{FileCalls, Root};
use crate::http::{Outbound, Trust};
use crate::net::{Identity, Net, Use, hickory};
use crate::stdio::{Input, Sink};
use crate::{Dns, OnListen, Stop, World};

/// A [`World`] whose files are open and whose counters run: all instances of the process are made from it.
pub(crate) struct Surroundings {
    pub(crate) told: Arc<Told>,
    pub(crate) root_path: std::path::PathBuf,
    files: FileCalls,
    pub(crate) root: Root,
    stdin: Input,
    stdout: Sink,
    pub(crate) stderr: Sink,
    pub(crate) budget: Budget,
    identity: Arc<Identity>,
    dns: Dns,
    on_listen: Option<OnListen>,
    trust: Arc<Trust>,
    pub(crate) notice: Notice,
    pub(crate) config: Arc<WasiConfigVariables>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("args", &self.told.args).finish_non_exhaustive()
    }
}

/// What a guest is told of itself.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
}

/// What all instances on one runtime share.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) net: Net,
    pub(crate) outbound: Outbound,
    seeds: Arc<Seeds>,
}

/// Seeds for the guests' hash maps: one question to the kernel, and for each instance another seed.
#[derive(Debug)]
struct Seeds {
    base: u128,
    given: AtomicU64,
}

impl Local {
    /// What `wasi:random/insecure-seed` says to one instance.
    pub(crate) fn seed(&self) -> u128 {
        // The golden ratio: neighbours are far apart.
        const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let given = u128::from(self.seeds.given.fetch_add(1, Ordering::Relaxed));
        self.seeds.base.wrapping_add(given.wrapping_mul(STEP))
    }
}

impl Surroundings {
    /// Opens the root.
    pub(crate) fn new(world: World, files: FileCalls, stop: &Stop) -> io::Result<Self> {
        let terminal = world.terminal;
        let cwd = if world.cwd.is_empty() { "/".into() } else { world.cwd };
        let mut env = world.env;
        if cwd != "/" && !env.iter().any(|(name, _)| name == "PWD") {
            env.push(("PWD".into(), cwd.clone()));
        }
        let root = Root::open(&world.root, &cwd, files)?;
        Ok(Self {
            identity: Arc::new(Identity::new(&world.network)),
            dns: world.network.dns,
            on_listen: world.on_listen,
            trust: Arc::new(Trust::new(root.clone(), &env)),
            notice: Notice::new(stop.asked()),
            config: Arc::new(env.iter().cloned().collect()),
            told: Arc::new(Told { args: world.args, env, cwd }),
            root,
            root_path: world.root,
            files,
            stdin: Input::new(world.stdin, terminal, stop.stdin_closed()),
            stdout: Sink::new(world.stdout, terminal),
            stderr: Sink::new(world.stderr, terminal),
            budget: Budget::new(world.memory_limit, stop.memory_limit()),
        })
    }

    /// For a runtime of its own.
    pub(crate) fn local(&self) -> Local {
        let resolver = hickory(&self.dns, Arc::clone(&self.identity));
        let outbound = Outbound::new(Arc::clone(&self.identity), Arc::clone(&resolver), Arc::clone(&self.trust));
        let base = u128::from(kernel().next_u64()) << 64 | u128::from(kernel().next_u64());
        let seeds = Arc::new(Seeds { base, given: AtomicU64::new(0) });
        Local { net: Net::new(Arc::clone(&self.identity), resolver, self.on_listen.clone()), outbound, seeds }
    }

    /// The sandbox: streams, clocks, random numbers of the kernel. No
    /// network beyond what the socket layer gives.
    pub(crate) fn wasi(&self) -> WasiCtxBuilder {
        let mut wasi = WasiCtxBuilder::new();
        let identity = Arc::clone(&self.identity);
        wasi.allow_blocking_current_thread(self.files == FileCalls::OnThread)
            .stdin(self.stdin.clone())
            .stdout(self.stdout.clone())
            .stderr(self.stderr.clone())
            .secure_random(kernel())
            .insecure_random(kernel())
            .socket_addr_check(move |address, use_| {
                let allowed = identity.may_use(address, side(use_));
                Box::pin(async move { allowed })
            })
            .allow_ip_name_lookup(true)
            .allow_tcp(true)
            .allow_udp(true);
        wasi
    }
}

fn side(use_: SocketAddrUse) -> Use {
    match use_ {
        SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::UdpBind => Use::Local,
        SocketAddrUse::TcpAccept | SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
            Use::Remote
        }
    }
}

/// Random numbers from the kernel: without state of its own, it is never duplicated by a fork.
fn kernel() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}
