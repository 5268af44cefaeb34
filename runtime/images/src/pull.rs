//! Pulling: resolve the name, decide from the documents, fetch what is missing, unpack, publish.

mod config;
mod error;
mod fetch;
mod import;
mod progress;
mod resolve;
mod source;

use std::sync::Arc;

pub use config::{Admit, PullerConfig};
pub use error::{PullCause, PullError, Retry};
use futures::{StreamExt as _, TryStreamExt as _};
pub use import::ImportError;
pub use progress::{Progress, ProgressEvent};

use crate::format::{Plan, PlannedContent, PlannedLayer, WasmKind, plan};
use crate::image::Image;
use crate::reference::Reference;
use crate::registry::{Credential, Purpose, Sessions};
use crate::store::ImageStore;
use resolve::Resolved;
use source::Source;

/// Pulls images into a store. Cheap to clone.
#[derive(Clone)]
pub struct Puller {
    store: ImageStore,
    config: Arc<PullerConfig>,
    sessions: Sessions,
}

/// What [`Puller::pull_telling`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// Place of the credential that the registry took, in the list given; `None` if there were none to be shown.
    pub credential: Option<usize>,
}

impl std::fmt::Debug for Puller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Puller")
            .field("store", &self.store)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Puller {
    /// A puller into `store`.
    pub fn new(store: ImageStore, config: PullerConfig) -> Self {
        let sessions = Sessions::new(config.registries.clone());
        Self { store, config: Arc::new(config), sessions }
    }

    /// The store it pulls into.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    /// Pulls an image. The credentials are tried in turn until the registry gives it for one; with none it is asked without. What is
    /// wrong with the image itself, or with the way to the registry, no other credential can mend.
    ///
    /// Always asks the registry what the name stands for now (`imagePullPolicy: Always`); content that is there is not fetched again.
    /// May be dropped at any point.
    pub async fn pull(
        &self,
        reference: &Reference,
        credentials: &[Credential],
        progress: &dyn Progress,
    ) -> Result<Image, PullError> {
        self.pull_telling(reference, credentials, progress).await.map(|pulled| pulled.image)
    }

    /// The same, and says which credential it was.
    pub async fn pull_telling(
        &self,
        reference: &Reference,
        credentials: &[Credential],
        progress: &dyn Progress,
    ) -> Result<Pulled, PullError> {
        let failed = |cause| PullError::new(reference, cause);
        let _hold = self.store.hold().await.map_err(|error| failed(error.into()))?;
        if credentials.is_empty() {
            let image = self.pull_with(reference, &Credential::Anonymous, progress).await.map_err(failed)?;
            return Ok(Pulled { image, credential: None });
        }
        let mut refused = Vec::new();
        for (place, credential) in credentials.iter().enumerate() {
            match self.pull_with(reference, credential, progress).await {
                Err(cause) if cause.may_depend_on_credential() => refused.push(cause),
                Ok(image) => return Ok(Pulled { image, credential: Some(place) }),
                Err(cause) => return Err(failed(cause)),
            }
        }
        Err(failed(PullCause::of_credentials(refused)))
    }

    async fn pull_with(
        &self,
        reference: &Reference,
        credential: &Credential,
        progress: &dyn Progress,
    ) -> Result<Image, PullCause> {
        let session = self.sessions.open(reference, credential, Purpose::Pull)?;
        if let Some(image) = self.unchanged(&session, reference, progress).await? {
            return Ok(image);
        }
        let resolved = self.resolve(&session, reference).await?;
        self.take_in(&Source::Registry(&session), resolved, std::slice::from_ref(reference), progress).await
    }

    /// Fetches what the store lacks of an image, and lets the names stand for it.
    async fn take_in(
        &self,
        source: &Source<'_>,
        resolved: Resolved,
        references: &[Reference],
        progress: &dyn Progress,
    ) -> Result<Image, PullCause> {
        let config = self.config_document(source, &resolved.document).await?;
        let plan = plan(&resolved.document, &config)?;
        self.admit(&plan)?;
        let sizes = resolved.document.layers.iter().map(|layer| layer.size);
        progress
            .report(ProgressEvent::Resolved { digest: &resolved.manifest, size: sizes.fold(0, u64::saturating_add) });

        self.store.put_blob_as(&config, &resolved.document.config.digest)?;
        match &plan.content {
            PlannedContent::Module(module) => {
                let is_wasm = |start: &[u8]| WasmKind::of(start).map(drop);
                self.fetch(source, module, &is_wasm, progress).await?;
            }
            PlannedContent::Rootfs(layers) => {
                // Collected first: a closure in the stream would keep this future from being `Send` for its callers.
                let layers: Vec<_> = layers.iter().map(|layer| self.layer(source, layer, progress)).collect();
                let layers = futures::stream::iter(layers);
                layers.buffer_unordered(self.config.parallel_layers.max(1)).try_collect::<()>().await?;
            }
        }
        self.store.put_blob_as(&resolved.manifest_bytes, &resolved.manifest)?;
        let [name, ..] = references else { return Err(PullCause::Vanished) };
        // Before a name stands for it: what cannot be loaded must not take the place of what can. Collecting is held off, so only
        // someone who removes files by hand can get between.
        let image = self.store.load(name, &resolved.manifest)?.ok_or(PullCause::Vanished)?;
        for reference in references {
            self.store.publish(reference, &resolved.target, &resolved.manifest)?;
        }
        Ok(image)
    }

    async fn layer(&self, source: &Source<'_>, layer: &PlannedLayer, progress: &dyn Progress) -> Result<(), PullCause> {
        let blob = &layer.descriptor.digest;
        let _claim = self.store.claim_layer(&layer.diff_id).await;
        let is_kept = !self.config.keep_layers || self.store.has_blob(blob);
        if self.store.has_layer(&layer.diff_id) && is_kept {
            return Ok(());
        }
        self.fetch(source, &layer.descriptor, &|_| Ok(()), progress).await?;
        if self.store.has_layer(&layer.diff_id) {
            return Ok(());
        }
        progress.report(ProgressEvent::Unpacking { digest: blob });
        let unpacked = self.store.unpack_layer(blob, &layer.diff_id, self.config.unpack).await;
        unpacked.map_err(|error| PullCause::layer(blob, error))?;
        if !self.config.keep_layers {
            self.store.drop_blob(blob)?;
        }
        progress.report(ProgressEvent::Unpacked { digest: blob });
        Ok(())
    }

    fn admit(&self, plan: &Plan) -> Result<(), PullCause> {
        match (&plan.component, &self.config.admit) {
            (Some(component), Some(admit)) => Ok(admit.imports(&component.imports).map_err(crate::Refusal::Imports)?),
            _ => Ok(()),
        }
    }
}
