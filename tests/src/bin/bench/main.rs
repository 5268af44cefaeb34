//! `make bench`: figures of real Wasm pods beside KWOK, which runs nothing, on the same control plane in the same run.

mod footprint;
mod machine;
mod pods;
mod report;
mod requests;
mod single;
mod trace;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use samara_tests::cluster::{self, Cluster, workspace};
use samara_tests::node::{Node, Options, samara};
use samara_tests::site::{self, Site};
use samara_tests::{forward, host, samples};
use serde_json::json;

use pods::{Fired, Shot, Target};
use report::Report;
use requests::Requests;

/// The figures of issue 3, section 4.
#[derive(Debug, Parser)]
struct Args {
    /// Leave out the shots of 1,000 pods
    #[arg(long)]
    small: bool,
    /// Only 100 pods at once, to compare two builds
    #[arg(long)]
    burst: bool,
}

fn main() -> ExitCode {
    if let Some(code) = forward::main_if_asked() {
        return code;
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let tools = [cluster::TOOLS.as_slice(), &["kwok"]].concat();
    host::check(&cluster::tools_dir(), &tools)?;
    let site = Site::enter("bench")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(end_on_signal(site.clone()));
    let mut report = Report::new();
    single::runs_of_hello(&site, &mut report)?;
    let report = runtime.block_on(measure(args, site, report))?;
    let file = workspace().join("target/bench.md");
    std::fs::write(&file, report.markdown()).with_context(|| format!("write {}", file.display()))?;
    println!("\n{}\nwritten to {}", report.markdown(), file.display());
    Ok(())
}

async fn measure(args: &Args, site: Site, mut report: Report) -> Result<Report> {
    let options = cluster::Options { node_cidr_mask_size: 20, ..cluster::Options::new() };
    let cluster = Cluster::up(site, &options).await?;
    samples::push_all().await?;
    pods::start_kwok(&cluster).await?;
    let config = json!({ "maxPods": 1100, "podPidsLimit": -1 });
    let node = Node::start(&cluster, &Options { config, ..Options::new("samara") }).await?;
    node.ready(&cluster).await?;

    if !args.burst {
        footprint::of_an_idle_node(&cluster, &node, &mut report, "idle").await?;
    }
    pods::warm(&cluster, Target::Samara).await?;
    pods::warm(&cluster, Target::Kwok).await?;
    let burst = Shot { pods: 100, every: None };
    if args.burst {
        for target in [Target::Kwok, Target::Samara, Target::Kwok, Target::Samara, Target::Kwok] {
            let fired = shoot(&cluster, target, burst, &mut report).await?;
            pods::clear(&cluster, &fired).await?;
        }
        return Ok(report);
    }
    pods::first_of_an_image(&cluster, &mut report).await?;
    let mut shots = vec![Shot { pods: 100, every: Some(Duration::from_millis(200)) }, burst];
    if !args.small {
        shots.push(Shot { pods: 1000, every: None });
    }
    for shot in shots {
        // The floor before and after, because a control plane grows slower with what it has seen.
        for target in [Target::Kwok, Target::Samara, Target::Kwok] {
            let before = machine::Memory::now(&cluster)?;
            let fired = shoot(&cluster, target, shot, &mut report).await?;
            if target == Target::Samara {
                if shot.every.is_some() {
                    trace::of_starts(&node, fired.namespace(), &mut report)?;
                }
                footprint::per_pod(&cluster, &before, shot.pods, &mut report).await?;
                footprint::of_an_idle_node(&cluster, &node, &mut report, &format!("with {} pods", shot.pods)).await?;
                footprint::adoption(&cluster, &node, fired.namespace(), shot.pods, &mut report).await?;
            }
            pods::clear(&cluster, &fired).await?;
        }
    }
    report.line(format!("the binary {}: {} MiB", samara().display(), std::fs::metadata(samara())?.len() >> 20));
    Ok(report)
}

async fn shoot(cluster: &Cluster, target: Target, shot: Shot, report: &mut Report) -> Result<Fired> {
    let asked = Requests::now(cluster).await?;
    let before = machine::Cpu::now()?;
    let fired = pods::fire(cluster, target, shot).await?;
    let used = machine::Cpu::now()?.since(&before);
    report.requests(target, shot, &Requests::now(cluster).await?.since(&asked, shot.pods));
    report.shot(target, shot, &fired);
    report.cpu(target, shot, &used);
    Ok(fired)
}

async fn end_on_signal(site: Site) {
    site::signalled().await;
    eprintln!("\nended by a signal: undoing everything");
    site.end().unwrap_or_else(|error| eprintln!("{error:#}"));
    std::process::exit(130);
}
