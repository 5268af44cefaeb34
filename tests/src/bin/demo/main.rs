//! `make demo`: a control plane, a node, and a story in plain sentences. `make down` ends it.

mod shell;
mod story;
mod tell;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use samara_tests::cluster::{self, Cluster};
use samara_tests::site::{self, Site};
use samara_tests::{forward, host, samples};

use tell::Teller;

/// Name of the demo's run; `make down` knows it.
const NAME: &str = "demo";

/// Shows what Samara does, on a real control plane on this machine.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Verb {
    /// End what is up, and clean up after what was killed
    Down,
    /// Only the control plane and the registry with the samples, for work on the node
    Plane,
}

fn main() -> ExitCode {
    if let Some(code) = forward::main_if_asked() {
        return code;
    }
    let done = match Args::parse().verb {
        Some(Verb::Down) => down(),
        Some(Verb::Plane) => up(Until::Plane),
        None => up(Until::TheEnd),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Plane,
    TheEnd,
}

fn down() -> Result<()> {
    site::clean_dead_runs()?;
    println!("{}", if site::down(NAME)? { "the demo is down" } else { "nothing is up" });
    Ok(())
}

fn up(until: Until) -> Result<()> {
    let began = Instant::now();
    host::check(&cluster::tools_dir(), &cluster::TOOLS)?;
    if site::down(NAME)? {
        println!("An earlier demo was still up: ended it.");
    }
    let site = Site::enter(NAME)?;
    let mut teller = Teller::new(began);
    if until == Until::TheEnd {
        story::first_light(&site, &mut teller)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(end_on_signal(site.clone()));
    runtime.block_on(async {
        let cluster = teller
            .step("A real control plane starts, in a network namespace of its own", async |tell| {
                let cluster = Cluster::up(site.clone(), &cluster::Options::new()).await?;
                let count = samples::push_all().await.context("push the samples")?;
                tell.say(&format!("etcd, kube-apiserver, controllers, scheduler and a registry with {count} images"));
                Ok(cluster)
            })
            .await?;
        if until == Until::TheEnd {
            story::tell(&cluster, &mut teller).await?;
        }
        let kubeconfig = shell::open_door(&cluster).await?;
        site.leave_up()?;
        shell::say_what_is_there(&kubeconfig, began.elapsed(), until == Until::TheEnd);
        Ok(())
    })
}

async fn end_on_signal(site: Site) {
    site::signalled().await;
    eprintln!("\nended by a signal: undoing everything");
    if let Err(error) = site.end() {
        eprintln!("{error:#}");
    }
    std::process::exit(130);
}
