//! `samara system`: what is kept on this machine, and away with what nobody uses.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::container::{Container, Shelf};
use crate::format::{Format, bytes, print, print_json, table};
use crate::image::store;
use crate::place::{Place, must_be_root};
use crate::tell::remark;
use crate::verbs::rm;

/// What `samara system` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what images, containers, volumes and compiled code take
    Df(DfArgs),
    /// Remove ended containers and what no image needs
    Prune(PruneArgs),
}

/// What `samara system df` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara system df --format json")]
pub(crate) struct DfArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// What `samara system prune` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara system prune -f
  samara system prune --all --volumes      # also images and volumes that no container uses")]
pub(crate) struct PruneArgs {
    /// Also images that no container is made of
    #[arg(short, long)]
    all: bool,
    /// Also named volumes that no container mounts
    #[arg(long)]
    volumes: bool,
    /// Without asking
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

/// One kind of things.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    kind: &'static str,
    count: usize,
    in_use: usize,
    /// Bytes on disk.
    size: u64,
}

pub(crate) fn main(system: System) -> Result<ExitCode> {
    match system {
        System::Df(args) => df(args),
        System::Prune(args) => prune(args),
    }
}

fn df(args: DfArgs) -> Result<ExitCode> {
    let place = args.place.absolute()?;
    let containers = Shelf::of(&place).all()?;
    let used = used_images(&place, &containers)?;
    let images = store::open(&place)?.list()?;
    let up = containers.iter().filter(|container| container.status().is_ok_and(|status| status.is_up())).count();
    let volumes = names(&place.volumes())?;
    let mounted = mounted_volumes(&containers, &place.volumes())?;
    let code = names(&place.code())?;
    let row = |kind, count, in_use, size| Row { kind, count, in_use, size };
    let rows = [
        row(
            "images",
            images.len(),
            images.iter().filter(|image| used.contains(image.digest.as_str())).count(),
            size(&place.images()),
        ),
        row("containers", containers.len(), up, containers.iter().map(|container| size(container.dir())).sum()),
        row("volumes", volumes.len(), mounted.len(), size(&place.volumes())),
        row("code", code.len(), code.len(), size(&place.code())),
    ];
    match args.format {
        Format::Json => print_json(&rows)?,
        Format::Table => {
            let cells = rows
                .iter()
                .map(|row| vec![row.kind.to_owned(), row.count.to_string(), row.in_use.to_string(), bytes(row.size)]);
            print(table(&["KIND", "COUNT", "IN USE", "SIZE"], &cells.collect::<Vec<_>>()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(args: PruneArgs) -> Result<ExitCode> {
    must_be_root("system prune")?;
    let place = args.place.absolute()?;
    if !args.force {
        confirm(&args)?;
    }
    let before = size(place.root_dir());
    let shelf = Shelf::of(&place);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.all || args.volumes {
        shelf.must_be_whole()?;
    }
    for container in shelf.list()? {
        match runtime.block_on(rm::remove_ended(&place, &container)) {
            Ok(true) => print(format!("container {}\n", container.record.name))?,
            Ok(false) => {}
            // One may be removed by somebody else meanwhile; what is damaged is no reason to keep the others.
            Err(error) => remark(format_args!("{}: {error:#}", container.record.name)),
        }
    }
    let left = shelf.all()?;
    let store = store::open(&place)?;
    if args.all {
        let used = used_images(&place, &left)?;
        for image in store.list()?.iter().filter(|image| !used.contains(image.digest.as_str())) {
            store.remove_image(&image.digest)?;
            print(format!("image {}\n", image.digest))?;
        }
    }
    store.collect()?;
    if args.volumes {
        let mounted = mounted_volumes(&left, &place.volumes())?;
        for name in names(&place.volumes())?.into_iter().filter(|name| !mounted.contains(name)) {
            let dir = place.volumes().join(&name);
            samara_inside::remove_directory_at(&dir).with_context(|| format!("remove {}", dir.display()))?;
            print(format!("volume {name}\n"))?;
        }
    }
    print(format!("{} freed\n", bytes(before.saturating_sub(size(place.root_dir())))))?;
    Ok(ExitCode::SUCCESS)
}

fn confirm(args: &PruneArgs) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("there is nobody here to ask: -f does it without");
    }
    let images = if args.all { ", images that no container is made of" } else { "" };
    let volumes = if args.volumes { ", volumes that no container mounts, with what is in them" } else { "" };
    eprint!("This removes all ended containers{images}{volumes}. Go on? [y/N] ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if !matches!(line.trim(), "y" | "Y" | "yes") {
        bail!("nothing was removed");
    }
    Ok(())
}

/// Those of containers, and of the pods of a node on this machine.
fn used_images(place: &Place, containers: &[Container]) -> Result<BTreeSet<String>> {
    let mut used = samara_agent::pods::images_of_pods(place.run_dir()).map_err(anyhow::Error::msg)?;
    used.extend(containers.iter().filter_map(|container| container.record.image_digest.clone()));
    Ok(used)
}

fn mounted_volumes(containers: &[Container], volumes: &Path) -> Result<HashSet<String>> {
    let mut mounted = HashSet::new();
    for container in containers {
        let spec = container.spec()?;
        let sources = spec.mounts().iter().flatten().filter_map(|mount| mount.source().as_ref());
        mounted.extend(sources.filter_map(|source| volume_of(source, volumes)));
    }
    Ok(mounted)
}

/// The named volume that a mount's source is.
fn volume_of(source: &Path, volumes: &Path) -> Option<String> {
    let name = source.strip_prefix(volumes).ok()?;
    name.components().next().map(|name| name.as_os_str().to_string_lossy().into_owned())
}

fn names(dir: &Path) -> Result<Vec<String>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let entries = entries.with_context(|| format!("read {}", dir.display()))?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
    }
}

/// Blocks that its files take, each file once. What goes meanwhile does not count.
fn size(dir: &Path) -> u64 {
    let (mut seen, mut total, mut rest) = (HashSet::new(), 0, vec![PathBuf::from(dir)]);
    while let Some(path) = rest.pop() {
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if seen.insert((about.dev(), about.ino())) {
            total += about.blocks() * 512;
        }
        if about.is_dir() {
            rest.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 100_000]).unwrap();
        let one = size(dir.path());
        assert!(one >= 100_000);
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(size(dir.path()) < one + 50_000);
        assert_eq!(size(&dir.path().join("nothing")), 0);
    }

    #[test]
    fn a_volume_is_known_by_its_directory() {
        let volumes = Path::new("/r/volumes");
        assert_eq!(volume_of(Path::new("/r/volumes/data"), volumes), Some("data".into()));
        assert_eq!(volume_of(Path::new("/r/volumes/data/sub"), volumes), Some("data".into()));
        assert_eq!(volume_of(Path::new("/home/data"), volumes), None);
    }
}
