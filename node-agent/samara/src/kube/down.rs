//! `samara kube down`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::home::{Home, Name, name_of, read};
use super::node;
use super::plan::plan;
use crate::format::print;
use crate::place::{Place, must_be_root};

/// What `samara kube down` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara kube down pod.yaml
  cat pod.yaml | samara kube down -

Pods that were played together end together: those of the same `kube play` end too, and are printed. Each pod ends within
its terminationGracePeriodSeconds. Named volumes stay.")]
pub(crate) struct DownArgs {
    /// The manifest that was played; - for standard input
    file: String,
    #[command(flatten)]
    place: Place,
}

/// How often it is looked whether they are gone.
const LOOKS_EVERY: Duration = Duration::from_millis(20);
/// It looks at its manifests every second at the latest.
const NODE_SPEAKS_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn main(args: DownArgs) -> Result<ExitCode> {
    must_be_root("kube down")?;
    let place = args.place.absolute()?;
    let names = plan(read(&args.file)?, &place.volumes())?.names();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(take(&place, &Home::of(&place), &names))?;
    if ended.is_empty() {
        bail!("none of its pods is here: `samara ps -a` lists what is");
    }
    print(ended.iter().map(|(_, name)| format!("{name}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

/// Ends what was played of these pods, with what was played together with it, and waits until nothing of it is left.
pub(super) async fn take(place: &Place, home: &Home, names: &BTreeSet<Name>) -> Result<BTreeSet<Name>> {
    let mut going: BTreeSet<Name> = {
        let _gate = home.gate()?;
        let mut plays = home.plays()?;
        plays.retain(|play| play.pods.iter().any(|pod| names.contains(&name_of(pod))));
        if !plays.is_empty() {
            // One that was killed is started for this, and takes its pods over: somebody must end them.
            node::ensure(place, home)?;
        }
        let mut going = BTreeSet::new();
        for play in plays {
            let pods: BTreeSet<Name> = play.pods.iter().map(name_of).collect();
            known(home, &pods).await?;
            going.extend(pods);
            match fs::remove_file(&play.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", play.file.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        going
    };
    // Those of a play that is being taken down already.
    going.extend(home.statuses()?.into_keys().filter(|name| names.contains(name)));
    loop {
        home.must_have_node().or_else(|error| if home.manifests().exists() { Err(error) } else { Ok(()) })?;
        let left = home.statuses()?;
        if !going.iter().any(|name| left.contains_key(name)) {
            return Ok(going);
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// Waits until the node has said something of each: then it also says when they are gone.
async fn known(home: &Home, pods: &BTreeSet<Name>) -> Result<()> {
    let told = async {
        while !home.statuses().is_ok_and(|told| pods.iter().all(|name| told.contains_key(name))) {
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    };
    tokio::time::timeout(NODE_SPEAKS_WITHIN, told).await.context("the node of `samara kube` does not answer")
}
