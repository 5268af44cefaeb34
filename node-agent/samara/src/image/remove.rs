//! `samara rmi`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use samara_images::{Digest, ImageStore, Reference};

use super::store;
use crate::container::Shelf;
use crate::format::print;
use crate::place::Place;
use crate::tell::report;

/// What `samara rmi` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara rmi registry.example/app:v1
  samara rmi -f $(samara images -q)")]
pub(crate) struct RmiArgs {
    /// Names or digests
    #[arg(required = true)]
    images: Vec<String>,
    /// Also if a container was made of it, and no error if it is not here
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

/// Forgets names, then removes what has none.
pub(crate) fn main(args: RmiArgs) -> Result<ExitCode> {
    let place = args.place.absolute()?;
    let (store, shelf) = (store::open(&place)?, Shelf::of(&place));
    let of_pods = samara_agent::pods::images_of_pods(place.run_dir()).map_err(anyhow::Error::msg)?;
    let mut failed = false;
    for name in &args.images {
        match remove(&store, &shelf, &of_pods, name, args.force) {
            Ok(()) => print(format!("{name}\n"))?,
            Err(error) => {
                report(&error.context(name.clone()));
                failed = true;
            }
        }
    }
    store.collect()?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn remove(store: &ImageStore, shelf: &Shelf, of_pods: &BTreeSet<String>, name: &str, force: bool) -> Result<()> {
    let by_digest = name.parse::<Digest>().ok();
    let digest = match &by_digest {
        Some(digest) => store.list()?.into_iter().map(|image| image.digest).find(|found| found == digest),
        None => store.get(&Reference::parse(name)?)?.map(|image| image.digest),
    };
    let Some(digest) = digest else {
        if force {
            return Ok(());
        }
        bail!("it is not here: `samara images` lists what is");
    };
    if of_pods.contains(digest.as_str()) && (by_digest.is_some() || is_last_name(store, &digest)) {
        bail!("a pod of this node uses it: `kubectl get pods -A --field-selector spec.nodeName=NODE` lists them");
    }
    let user = shelf.all()?.into_iter().find(|container| {
        container.record.image_digest.as_deref() == Some(digest.as_str())
            && (force || by_digest.is_some() || is_last_name(store, &digest))
    });
    if let Some(user) = user {
        let up = user.status()?.is_up();
        if up || !force {
            let name = &user.record.name;
            let how = match (user.must_be_own(), up) {
                (Err(_), _) => "samara kube down FILE".to_owned(),
                (Ok(()), true) => format!("samara rm -f {name}"),
                (Ok(()), false) => format!("samara rm {name}"),
            };
            bail!("the container {name} is made of it: `{how}` first");
        }
    }
    match by_digest {
        Some(digest) => store.remove_image(&digest)?,
        None => store.remove(&Reference::parse(name)?)?,
    };
    Ok(())
}

/// Whether the image goes with its next name.
fn is_last_name(store: &ImageStore, digest: &Digest) -> bool {
    let images = store.list().unwrap_or_default();
    let names = images.iter().filter(|image| image.digest == *digest).flat_map(|image| &image.references);
    names.filter(|name| name.tag().is_some()).count() <= 1
}
