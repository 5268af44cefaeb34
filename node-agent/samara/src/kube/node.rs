//! `samara-kube`: the node that looks after the pods of `samara kube`.
//!
//! It is this program under another name, in a session of its own: the agent, standing alone on the manifests that plays
//! put down. It ends by itself when none is left. If it is killed, its pods live on, and the next `play` or `down` starts
//! another, which adopts them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args as _, FromArgMatches as _};
use samara_agent::pods::Manifests;
use samara_agent::{AgentConfig, Deps, args::NodeArgs, network};
use samara_core::statics::Naming;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::home::{Held, Home};
use crate::compiler::{Compiler, Imports};
use crate::container::Shelf;
use crate::image::store::install_tls;
use crate::node::{own_exe, used_images};
use crate::place::Place;

/// `argv[0]` by which the binary knows that it is this node.
pub(crate) const NAME: &str = "samara-kube";
/// What it says once it runs; anything else is what went wrong.
const STARTED: &str = "started";
/// How often it looks whether anybody needs it still.
const LOOKS_EVERY: Duration = Duration::from_millis(250);
/// Who looks whether there is a node is in its way for less than this.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Makes sure that there is one. To be called with the gate held, so that it does not end meanwhile.
pub(super) fn ensure(place: &Place, home: &Home) -> Result<()> {
    if home.has_node()? {
        return Ok(());
    }
    home.forget_statuses()?;
    let exe = std::env::current_exe().context("find this program's own file")?;
    let path = home.node_log();
    let log = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let mut command = Command::new(exe);
    command.arg0(NAME).args([place.root_dir(), place.run_dir()]).current_dir("/").env_remove("KUBECONFIG");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
    let mut child = child.context("start the node of `samara kube`")?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).context("hear from the node of `samara kube`")?;
    }
    match said.trim() {
        STARTED => Ok(()),
        "" => bail!("the node of `samara kube` ended with {}: see {}", child.wait()?, path.display()),
        error => bail!("{error}"),
    }
}

/// The whole life of the process; `args` are without its name. To be called before there is a second thread.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Fails for the leader of a session, which is as good.
    let _ = rustix::process::setsid();
    let mut args = args.into_iter().map(PathBuf::from);
    let (Some(root), Some(run)) = (args.next(), args.next()) else {
        eprintln!("{NAME} is started by `samara kube play`");
        return ExitCode::FAILURE;
    };
    match live(&Place::new(root, run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            answer(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn live(place: &Place) -> Result<()> {
    let home = Home::of(place);
    // Let go of after the node's own lock: who has the gate can tell whether there is a node.
    let mut gate = None;
    let Some(_node) = be_node(&home)? else {
        answer(STARTED);
        return Ok(());
    };
    home.make()?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    install_tls();
    let config = config(place, &home)?;
    let exe = own_exe();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let shutdown = CancellationToken::new();
    runtime.block_on(async {
        let compile = Arc::new(Compiler::new(place.root_dir(), exe.clone(), config.pods.compile)?);
        let shelf = Shelf::of(place);
        let deps = Deps {
            compile,
            admit: Arc::new(Imports),
            image_users: Arc::new(move || used_images(&shelf)),
            shim_exe: exe,
            shutdown: shutdown.clone(),
        };
        let agent = tokio::spawn(samara_agent::run(config, deps));
        answer(STARTED);
        let needless = async {
            gate = Some(needless(&home).await?);
            shutdown.cancel();
            anyhow::Ok(())
        };
        tokio::select! {
            done = needless => done?,
            () = asked_to_end() => shutdown.cancel(),
            // It ends by itself only when something is wrong.
            () = agent_ended(&agent) => {}
        }
        agent.await?.context("look after pods")
    })?;
    if gate.is_some() {
        // Nobody needs it, and nobody can come meanwhile: nothing is left behind.
        samara_agent::volumes::remove_tree(home.run())?;
        samara_agent::volumes::remove_tree(home.root())?;
    }
    Ok(())
}

/// `None`: there is one.
fn be_node(home: &Home) -> Result<Option<Held>> {
    for _ in 0..LOOKS {
        if let Some(held) = home.try_be_node()? {
            return Ok(Some(held));
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(None)
}

async fn agent_ended<T>(agent: &tokio::task::JoinHandle<T>) {
    while !agent.is_finished() {
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// Returns, with the gate, when there is neither a manifest nor a pod.
async fn needless(home: &Home) -> Result<Held> {
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        let is_empty =
            || -> Result<bool> { Ok(home.plays()?.is_empty() && home.statuses()?.is_empty() && !home.has_bundles()) };
        if !is_empty()? {
            continue;
        }
        // Whoever has it is about to bring work.
        if let Some(gate) = home.try_gate()?
            && is_empty()?
        {
            return Ok(gate);
        }
    }
}

/// The pods live on.
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        _ => std::future::pending().await,
    }
}

/// A node's defaults, without a cluster, a registry's credentials or a port.
fn config(place: &Place, home: &Home) -> Result<AgentConfig> {
    let command = NodeArgs::augment_args(clap::Command::new(NAME).no_binary_name(true));
    let path = |path: PathBuf| path.into_os_string();
    let flags: Vec<OsString> = vec![
        "--node-name=samara".into(),
        "--root-dir".into(),
        path(home.root().to_owned()),
        "--run-dir".into(),
        path(home.run().to_owned()),
        "--log-dir".into(),
        path(home.logs()),
        "--pod-manifest-path".into(),
        path(home.manifests()),
    ];
    let flags = NodeArgs::from_arg_matches(&command.try_get_matches_from(flags)?)?;
    let mut config = flags.into_config()?;
    config.api = None;
    config.store_dir = place.root_dir().to_owned();
    config.pods.network = network::Mode::Local;
    // Told at once: somebody waits.
    config.pods.status_hold = Duration::ZERO;
    config.server.healthz = None;
    config.manifests = Some(Manifests { path: home.manifests(), every: Duration::from_secs(1), naming: Naming::Plain });
    Ok(config)
}

/// To whoever started us, who reads to the end. Once.
fn answer(text: &str) {
    // One that went away does not wait for it.
    let _ = writeln!(std::io::stdout(), "{text}");
    if let Ok(null) = fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}
