//! Images of containers: here already, or pulled, with the kubelet's rules, texts and back-off; compiled before they are used.

mod account;
mod backoff;
mod code;
mod collector;
mod flights;
mod limits;
mod made;
mod offers;
mod records;
#[cfg(test)]
mod tests;
mod uses;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Secret};
use samara_core::events::{self, Event};
use samara_core::node::NodeImage;
use samara_core::objects::Fetched;
use samara_core::oci::Module;
use samara_core::pull::access::{Access, ImagePullCredentials, Shown, VerificationPolicy, access};
use samara_core::pull::{PullDecision, decide};
use samara_core::reasons::waiting;
use samara_images::{Account, Digest, Image, ImageStore, NodeCredentials, Puller, Reference, Retry, StoreError};
use tokio_util::sync::CancellationToken;

use crate::Compile;

pub(crate) use account::PodAccount;
use backoff::{Backoffs, What};
use code::Code;
pub use collector::{CollectError, Collector, ImageUsers, Round};
use flights::Flights;
pub use flights::PullLimits;
pub use limits::{CompileLimits, LimitArgs};
use made::Made;
use offers::Offer;
use records::Records;
pub use records::RecordsError;
use uses::Uses;

/// After a pull that failed, the reason is shown as `ErrImagePull` for so long before the back-off shows.
const SHOW_ERROR: Duration = Duration::from_secs(2);

/// The node's images. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: ImageStore,
    flights: Flights,
    credentials: NodeCredentials,
    verification: VerificationPolicy,
    records: Records,
    made: Made,
    uses: Uses,
    backoffs: Backoffs,
    code: Code,
}

/// By which rules images come and are used.
#[derive(Debug, Default)]
pub struct Rules {
    /// How many are pulled at once, and how often.
    pub limits: PullLimits,
    /// What the node itself shows to registries.
    pub credentials: NodeCredentials,
    /// Who may use what is here already.
    pub verification: VerificationPolicy,
}

/// An image that a container can be made from.
#[derive(Debug, Clone)]
pub struct Ready {
    pub image: Arc<Image>,
    /// The wasm of its first process, compiled.
    pub module: Module,
}

/// Why there is none: the container waits with this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of `samara_core::reasons::waiting`.
    pub reason: &'static str,
    pub message: String,
    pub retry_at: Timestamp,
}

/// Whose image.
pub struct Wish<'a> {
    pub pod_uid: &'a str,
    /// The pod's.
    pub namespace: &'a str,
    pub container: &'a Container,
    /// The pod's image pull secrets.
    pub secrets: &'a BTreeMap<String, Fetched<Secret>>,
    /// Whom the pod runs as, for credential plugins; `None`: nobody.
    pub account: Option<&'a dyn Account>,
    /// Takes events about the container.
    pub record: &'a (dyn Fn(Event) + Send + Sync),
}

impl std::fmt::Debug for Wish<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wish")
            .field("pod_uid", &self.pod_uid)
            .field("image", &self.container.image)
            .finish_non_exhaustive()
    }
}

impl Images {
    /// Over a store that may be shared with others. `records` is a directory for what is known of pulls.
    pub fn open(
        puller: Puller,
        records: PathBuf,
        rules: Rules,
        compile: Arc<dyn Compile>,
    ) -> Result<Self, RecordsError> {
        let store = puller.store().clone();
        let Rules { limits, credentials, verification } = rules;
        Ok(Self(Arc::new(Inner {
            code: Code::new(store.clone(), compile),
            credentials,
            verification,
            records: Records::open(records.clone(), store.clone())?,
            made: Made::open(records.join("code.json")),
            uses: Uses::default(),
            flights: Flights::new(puller, limits),
            backoffs: Backoffs::default(),
            store,
        })))
    }

    /// The container's image, pulled if its policy says so, and its code.
    pub async fn ensure(&self, wish: Wish<'_>) -> Result<Ready, Failure> {
        let name = wish.container.image.as_deref().unwrap_or_default();
        let reference = Reference::parse(name).map_err(|error| {
            (wish.record)(events::invalid_image_name(name, &error.to_string()));
            let message = events::invalid_image_name_message(name, &error.to_string());
            Failure::new(waiting::INVALID_IMAGE_NAME, message, Backoffs::longest(Timestamp::now()))
        })?;
        // What cannot be run is not looked at again before its time, wherever its image is.
        if let Some(failure) = self.0.backoffs.waiting(What::Code, wish.pod_uid, name, Timestamp::now()) {
            (wish.record)(events::back_off_pull(name));
            return Err(failure);
        }
        let image = loop {
            let removed = self.0.uses.removed();
            let image = self.image(&wish, name, &reference).await?;
            // One that was collected between the look and the hold is looked for again.
            let held = self.0.uses.hold(&image.digest, removed, Timestamp::now());
            if held || self.present(&reference, name)?.is_some() {
                break image;
            }
        };
        match self.0.code.of(&image, wish.container).await {
            Ok(module) => {
                self.0.made.note(image.digest.as_str(), &module.digest);
                self.0.backoffs.succeeded(wish.pod_uid, name);
                Ok(Ready { image, module })
            }
            Err(error) => {
                let (message, now) = (error.to_string(), Timestamp::now());
                let retry = Retry::Later(None);
                let failure = self.0.backoffs.failed(What::Code, wish.pod_uid, name, &message, retry, now);
                (wish.record)(events::pull_failed(name, &failure.message));
                Err(failure)
            }
        }
    }

    fn present(&self, reference: &Reference, name: &str) -> Result<Option<Arc<Image>>, Failure> {
        let found = self.0.store.get(reference).map_err(|error| {
            let message = format!("Failed to inspect image {name:?}: {error}");
            Failure::new(waiting::IMAGE_INSPECT_ERROR, message, Timestamp::now() + SHOW_ERROR)
        })?;
        Ok(found.map(Arc::new))
    }

    /// The image that is here if the pod may use it, else a pulled one.
    async fn image(&self, wish: &Wish<'_>, name: &str, reference: &Reference) -> Result<Arc<Image>, Failure> {
        let present = self.present(reference, name)?;
        let decision = decide(wish.container, present.is_some());
        let mut known = None;
        if let (PullDecision::UsePresent, Some(image)) = (decision, present) {
            let (granted, offers) = self.may_use(wish, reference, &image).await;
            if granted {
                (wish.record)(events::already_present(name));
                return Ok(image);
            }
            known = offers;
        }
        // Whether an image is here is not told to whom it does not open.
        if decision == PullDecision::NeverPull || never(wish.container) {
            (wish.record)(events::never_pull(name));
            let message = events::never_pull_message(name);
            return Err(Failure::new(waiting::ERR_IMAGE_NEVER_PULL, message, Backoffs::longest(Timestamp::now())));
        }
        if let Some(failure) = self.0.backoffs.waiting(What::Pull, wish.pod_uid, name, Timestamp::now()) {
            (wish.record)(events::back_off_pull(name));
            return Err(failure);
        }
        let offers = match known {
            Some(offers) => offers,
            None => offers::offers(wish, reference, &self.0.credentials).await,
        };
        self.pull(wish, name, reference, &offers).await
    }

    /// Whether the pod may use an image that is here; with its credentials if they had to be looked up for that.
    async fn may_use(&self, wish: &Wish<'_>, reference: &Reference, image: &Image) -> (bool, Option<Vec<Offer>>) {
        let repository = reference.name();
        let known = self.0.records.with_origin(&image.digest, reference, |origin| {
            match access(&self.0.verification, &repository, origin) {
                Access::Granted => Ok(true),
                Access::Pull => Ok(false),
                Access::Shown(known) => Err(known.clone()),
            }
        });
        let known = match known {
            Ok(granted) => return (granted, None),
            Err(known) => known,
        };
        let offers = offers::offers(wish, reference, &self.0.credentials).await;
        let (secrets, account) = offers::shown(&offers, wish.namespace);
        let granted = match known.shown(&secrets, account.as_ref()) {
            Shown::Granted => true,
            Shown::Pull => false,
            Shown::GrantedAlsoTo(secret) => {
                let also = ImagePullCredentials { kubernetes_secrets: vec![secret], ..ImagePullCredentials::default() };
                if let Err(error) = self.0.records.note(&image.digest, reference, also) {
                    tracing::warn!(image = %reference, %error, "a secret that opens an image is not noted");
                }
                true
            }
        };
        (granted, Some(offers))
    }

    async fn pull(
        &self,
        wish: &Wish<'_>,
        name: &str,
        reference: &Reference,
        offers: &[Offer],
    ) -> Result<Arc<Image>, Failure> {
        (wish.record)(events::pulling(name));
        let asked = Instant::now();
        let failed = |message: &str, retry: Retry| {
            (wish.record)(events::pull_failed(name, message));
            self.0.backoffs.failed(What::Pull, wish.pod_uid, name, message, retry, Timestamp::now())
        };
        let unrecorded = |error: RecordsError| failed(&text(&error), Retry::Later(None));
        let record = self.0.records.begin(reference).await.map_err(unrecorded)?;
        let credentials = offers.iter().map(|offer| offer.credential.clone()).collect();
        let pull = self.0.flights.pull(reference, credentials);
        match crate::metrics::agent().operations.runtime("pull_image", pull).await {
            Ok(pulled) => {
                let taken = pulled.credential.and_then(|place| offers.get(place));
                let opened = offers::opened(taken, wish.namespace);
                record.done(&pulled.image.digest, opened).await.map_err(unrecorded)?;
                // Who joined a pull that was under way has waited for less than all of it.
                let waited = asked.elapsed();
                (wish.record)(events::pulled(name, pulled.took.min(waited), waited, pulled.image.size));
                Ok(pulled.image)
            }
            Err(error) => Err(failed(&error.message, error.retry)),
        }
    }

    /// The pod is gone: its back-offs are forgotten.
    pub fn forget(&self, pod_uid: &str) {
        self.0.backoffs.forget(pod_uid);
    }

    /// The image's `/etc/passwd`, for a user that is named; empty without one.
    pub fn passwd(&self, image: &Image) -> String {
        use std::io::Read as _;
        /// Longer ones are cut: nothing large belongs there.
        const MOST: u64 = 1 << 20;
        if image.config.user.chars().all(|letter| letter.is_ascii_digit() || letter == ':') {
            return String::new();
        }
        let mut text = String::new();
        if let Ok(Some(file)) = self.0.store.open_in_image(image, "/etc/passwd") {
            drop(file.take(MOST).read_to_string(&mut text));
        }
        text
    }

    /// Images for the Node's status, largest first.
    pub fn list(&self) -> Vec<NodeImage> {
        let stored = self.0.store.list().unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "images cannot be listed");
            Vec::new()
        });
        let mut images: Vec<NodeImage> = stored
            .into_iter()
            .map(|image| NodeImage {
                names: image.references.iter().map(ToString::to_string).collect(),
                size: image.size,
            })
            .collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.size));
        images
    }

    fn store(&self) -> &ImageStore {
        &self.0.store
    }

    /// Whether an image was asked for a moment ago.
    fn is_held(&self, digest: &str, now: Timestamp) -> bool {
        self.0.uses.is_held(digest, now)
    }

    /// Removes an image, all its names, unless it was asked for a moment ago.
    fn remove_unless_held(&self, digest: &Digest, now: Timestamp) -> Result<bool, StoreError> {
        self.0.uses.remove_unless_held(digest, now, || self.0.store.remove_image(digest))
    }

    /// Forgets what is known of images that are gone, and removes their code.
    fn forget_gone(&self) -> Result<(), StoreError> {
        self.0.records.forget_gone()?;
        // In this order: an image that comes now is not taken for one that is gone.
        let mut gone = self.0.made.images();
        for image in self.0.store.list()? {
            gone.remove(image.digest.as_str());
        }
        for wasm in self.0.made.orphans(&gone) {
            if let Err(error) = self.0.code.forget(&wasm) {
                tracing::warn!(wasm, %error, "code without an image stays");
            }
        }
        self.0.made.forget(&gone);
        Ok(())
    }

    /// Tells the images whenever they may have changed, until `shutdown`.
    pub async fn keep_telling(self, tell: impl Fn(Vec<NodeImage>), shutdown: CancellationToken) {
        let mut changes = self.0.flights.changes();
        loop {
            tell(self.list());
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(Duration::from_secs(60)) => {}
            }
        }
    }
}

impl Failure {
    fn new(reason: &'static str, message: String, retry_at: Timestamp) -> Self {
        Self { reason, message, retry_at }
    }
}

fn never(container: &Container) -> bool {
    container.image_pull_policy.as_deref() == Some("Never")
}

/// An error and its causes in one line.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
