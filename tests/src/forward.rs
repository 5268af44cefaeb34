//! A small process that carries TCP connections from one network namespace to another.
//!
//! It brings the API server to the user's loopback, and the registry to each node's: an image named
//! `localhost:5000/...` is then pulled from there, over plain HTTP, as every container tool does with that name.

use std::env;
use std::fs::File;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sched::{CloneFlags, setns};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::site::Site;
use crate::site::namespace::Namespace;
use crate::site::process::Program;
use crate::wait::{Seen, until};

/// First argument of a harness program that is to be the forwarder.
const VERB: &str = "forward";

/// From where to where.
#[derive(Debug, Parser)]
struct Args {
    #[arg(long)]
    from_namespace: PathBuf,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    to_namespace: PathBuf,
    #[arg(long)]
    to: SocketAddr,
}

/// Becomes the forwarder if this process was started as one. Call it first in `main`, before any thread exists.
pub fn main_if_asked() -> Option<ExitCode> {
    let mut args = env::args_os();
    let program = args.next()?;
    if args.next()?.to_str() != Some(VERB) {
        return None;
    }
    let args = Args::parse_from(std::iter::once(program).chain(args));
    Some(match forward(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Starts a forwarder; when this returns, it listens.
pub async fn start(
    site: &Site,
    from: &Namespace,
    listen: SocketAddr,
    to: &Namespace,
    target: SocketAddr,
) -> Result<()> {
    let own = env::current_exe().context("this program's file")?;
    let log = site.data_dir().join("logs").join(format!("forward-{}.log", listen.port()));
    let file = |namespace: &Namespace| namespace.path();
    let program = Program::new("the forwarder", own, log)
        .arg(VERB)
        .arg("--from-namespace")
        .arg(file(from))
        .arg("--to-namespace")
        .arg(file(to))
        .args(["--listen", &listen.to_string(), "--to", &target.to_string()]);
    let mut process = site.start(site.namespace(), program)?;
    until("the forwarder listens", Duration::from_secs(20), async || {
        process.check()?;
        let tried = from.run(|| std::net::TcpStream::connect_timeout(&listen, Duration::from_secs(1)))?;
        Ok(Seen::when(tried.is_ok(), format!("{tried:?}")))
    })
    .await
}

fn forward(args: &Args) -> Result<()> {
    enter(&args.from_namespace)?;
    let listener = StdListener::bind(args.listen).with_context(|| format!("listen on {}", args.listen))?;
    listener.set_nonblocking(true)?;
    enter(&args.to_namespace)?;
    // One thread, so every connection is made from the namespace which this thread is in.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(listener, args.to))
}

async fn serve(listener: StdListener, to: SocketAddr) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let connections = tokio::task::LocalSet::new();
    connections
        .run_until(async {
            loop {
                let (mut client, _) = listener.accept().await.context("accept")?;
                tokio::task::spawn_local(async move {
                    // Either end may go at any time; the other end then sees its connection closed, which is all there is to say.
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        copy_bidirectional(&mut client, &mut server).await.ok();
                    }
                });
            }
        })
        .await
}

fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("open {}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", namespace.display()))
}
