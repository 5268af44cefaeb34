//! The image store of a root directory.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use samara_images::{Admit, Image, ImageStore, Puller, PullerConfig, Reference};

use super::auth;
use super::interrupt::unless_interrupted;
use super::progress::Shown;
use super::registries::Registries;
use crate::compiler::Imports;
use crate::place::Place;
use crate::run::Pull;

/// Opens it, and makes it if there is none.
pub(crate) fn open(place: &Place) -> Result<ImageStore> {
    let dir = place.images();
    ImageStore::open(&dir).with_context(|| format!("open the image store {}", dir.display()))
}

/// From the store, or from its registry.
pub(crate) async fn present_or_pulled(place: &Place, registries: &Registries, name: &str, pull: Pull) -> Result<Image> {
    let reference = Reference::parse(name)?;
    let store = open(place)?;
    let present = if pull == Pull::Always { None } else { store.get(&reference)? };
    match (present, pull) {
        (Some(image), _) => Ok(image),
        (None, Pull::Never) => {
            bail!("{reference} is not here, and --pull=never forbids to fetch it: `samara pull {name}`")
        }
        (None, Pull::Missing | Pull::Always) => fetch(store, registries, &reference, false).await,
    }
}

/// From its registry, with a bar unless `quiet`.
pub(crate) async fn fetch(
    store: ImageStore,
    registries: &Registries,
    reference: &Reference,
    quiet: bool,
) -> Result<Image> {
    install_tls();
    // As the node does: what could not be linked is refused before it comes, if it says what it imports.
    let admit: Option<Arc<dyn Admit>> = Some(Arc::new(Imports));
    let config = PullerConfig { registries: registries.config()?, admit, ..PullerConfig::default() };
    unless_interrupted(async {
        let credentials = auth::lookup(reference).await?;
        let shown = Shown::new(format_args!("fetching {reference}"), quiet);
        Ok(Puller::new(store, config).pull(reference, &credentials, &shown).await?)
    })
    .await
}

/// The one TLS provider of this process.
pub(crate) fn install_tls() {
    // Fails only if there is one already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
