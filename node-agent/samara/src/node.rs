//! `samara node`: the agent, with what only this binary can give it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use samara_agent::Deps;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::compiler::{Compiler, Imports};
use crate::container::Shelf;
use crate::image::store::install_tls;
use crate::place::Place;

pub(crate) use samara_agent::args::NodeArgs;

/// Runs until asked to stop. The pods go on.
pub(crate) fn main(args: NodeArgs) -> Result<ExitCode> {
    install_tls();
    let config = args.into_config()?;
    let exe = own_exe();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping; the pods go on");
            stop.cancel();
        });
        let compile = Arc::new(Compiler::new(&config.store_dir, exe.clone(), config.pods.compile)?);
        let shelf = Shelf::of(&Place::new(&config.root_dir, &config.run_dir));
        let deps = Deps {
            compile,
            admit: Arc::new(Imports),
            image_users: Arc::new(move || used_images(&shelf)),
            shim_exe: exe,
            shutdown,
        };
        samara_agent::run(config, deps).await?;
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

/// This program's own file, under a name that stays its own when the file is replaced, also for processes beside this one.
pub(crate) fn own_exe() -> PathBuf {
    format!("/proc/{}/exe", std::process::id()).into()
}

/// Images of containers that `samara run` and `samara kube` made with this root directory.
pub(crate) fn used_images(shelf: &Shelf) -> Result<BTreeSet<String>, String> {
    let containers = shelf.all().map_err(|error| format!("{error:#}"))?;
    Ok(containers.into_iter().filter_map(|container| container.record.image_digest).collect())
}
