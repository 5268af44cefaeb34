//! `samara kube play`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::home::{Home, Name, Play, name_of, read};
use super::plan::{Plan, plan};
use super::verdict::{Verdict, together, verdict};
use super::{down, member, node};
use crate::format::print;
use crate::image::registries::Registries;
use crate::image::{build, store};
use crate::place::{Place, must_be_root};
use crate::run::Pull;
use crate::supervise::Signals;
use crate::tell::remark;
use crate::verbs::logs;

/// What `samara kube play` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara kube play pod.yaml
  samara kube play --wait job.yaml; echo $?      # its exit code is ours
  kubectl create deployment web --image=ghcr.io/team/web:1 --dry-run=client -o yaml | samara kube play -
  samara logs -f web-app                         # container app of the pod web

Pod, Deployment, DaemonSet and Job are run; ConfigMap, Secret and PersistentVolumeClaim (a named volume) are what they may
refer to. A container's image may be a wasm file: ./app.wasm. A hostPort is opened on this machine.")]
pub(crate) struct PlayArgs {
    /// The manifest; - for standard input
    file: String,
    /// End what was played of these pods before, with the pods that were played together with them
    #[arg(long)]
    replace: bool,
    /// Wait until the pods are over, print what they wrote, remove them, and end with the first exit code that is not 0
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    place: Place,
}

/// How often the node's word is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(20);
/// A warning is taken for the reason that a pod does not start only after it had this long.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn main(args: PlayArgs) -> Result<ExitCode> {
    must_be_root("kube play")?;
    let place = args.place.absolute()?;
    let mut plan = plan(read(&args.file)?, &place.volumes())?;
    plan.notes.iter().for_each(remark);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        images(&place, &args.registries, &mut plan).await?;
        let mut signals = Signals::listen()?;
        let home = Home::of(&place);
        let play = put(&place, &home, &plan, args.replace).await?;
        let done = tokio::select! {
            done = watch(&home, &play, args.wait) => done,
            // Asked to stop while nothing is settled: nothing is kept.
            signal = signals.next() => Ok(Some(128 + u8::try_from(signal).unwrap_or(0))),
        };
        match done {
            Ok(None) => {
                print(play.pods.iter().map(|pod| name_of(pod).1 + "\n").collect::<String>())?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(Some(code)) => {
                let shown = output(&place, &plan);
                down::take(&place, &home, &plan.names()).await?;
                shown?;
                Ok(ExitCode::from(code))
            }
            Err(error) => {
                down::take(&place, &home, &plan.names()).await?;
                Err(error)
            }
        }
    })
}

/// What its containers wrote: with them their logs go.
fn output(place: &Place, plan: &Plan) -> Result<()> {
    let names = plan.names();
    for container in member::all(place)? {
        let label = |key: &str| container.record.labels.get(key).cloned().unwrap_or_default();
        if names.contains(&(label("io.kubernetes.pod.namespace"), label("io.kubernetes.pod.name"))) {
            logs::whole(&container)?;
        }
    }
    Ok(())
}

/// Fetches what is not here, with bars and with this user's credentials; makes images of files.
async fn images(place: &Place, registries: &Registries, plan: &mut Plan) -> Result<()> {
    let mut made = Vec::new();
    for (image, policy) in plan.images() {
        if image.starts_with(['.', '/']) {
            made.push((image.clone(), build::of_file(place, &image).await?));
            continue;
        }
        let pull = match policy.as_deref() {
            Some("Always") => Pull::Always,
            Some("Never") => Pull::Never,
            Some(_) | None => Pull::Missing,
        };
        store::present_or_pulled(place, registries, &image, pull).await?;
    }
    plan.with_images_present(|image| made.iter().find(|(file, _)| file == image).map(|(_, name)| name.clone()));
    Ok(())
}

/// Puts the manifest where the node finds it.
async fn put(place: &Place, home: &Home, plan: &Plan, replace: bool) -> Result<Play> {
    if replace {
        let ended = down::take(place, home, &plan.names()).await?;
        for (_, name) in ended.difference(&plan.names()) {
            remark(format_args!("pod {name:?} was played together with one of these, and has ended too"));
        }
    }
    let _gate = home.gate()?;
    home.make()?;
    let played: BTreeSet<Name> = home.plays()?.iter().flat_map(|play| play.pods.iter().map(name_of)).collect();
    let ending = home.statuses()?;
    if let Some((_, name)) = plan.names().iter().find(|name| played.contains(*name) || ending.contains_key(*name)) {
        bail!("pod {name:?} is there already: `samara kube down` ends it, --replace does so first");
    }
    let play = home.write(plan)?;
    node::ensure(place, home).inspect_err(|_| drop(std::fs::remove_file(&play.file)))?;
    Ok(play)
}

/// Until all pods run or, with `to_the_end`, are over: then the exit code.
async fn watch(home: &Home, play: &Play, to_the_end: bool) -> Result<Option<u8>> {
    let began = tokio::time::Instant::now();
    loop {
        home.must_have_node()?;
        let statuses = home.statuses()?;
        let verdicts = play.pods.iter().map(|pod| {
            let name = name_of(pod);
            let told = statuses.get(&name);
            let verdict = match verdict(pod, told.and_then(|told| told.status.as_ref())) {
                Verdict::Waits if began.elapsed() > PATIENCE => {
                    warned(home, told).map_or(Verdict::Waits, Verdict::Stuck)
                }
                verdict @ (Verdict::Waits | Verdict::Runs | Verdict::Over(_) | Verdict::Stuck(_)) => verdict,
            };
            (name.1, verdict)
        });
        match together(verdicts) {
            Verdict::Stuck(why) => bail!("{why}"),
            Verdict::Over(codes) if to_the_end => {
                return Ok(Some(codes.into_iter().find(|code| *code != 0).unwrap_or(0)));
            }
            Verdict::Runs | Verdict::Over(_) if !to_the_end => return Ok(None),
            Verdict::Runs | Verdict::Over(_) | Verdict::Waits => {}
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// The last warning about it.
fn warned(home: &Home, told: Option<&k8s_openapi::api::core::v1::Pod>) -> Option<String> {
    home.warnings(told?.metadata.uid.as_deref()?).pop()
}
