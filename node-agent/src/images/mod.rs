//! Images of containers: here already, or pulled, with the kubelet's rules, texts and back-off; compiled before they are used.

mod backoff;
mod code;
mod flights;
mod keyring;
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Secret};
use samara_core::events::{self, Event};
use samara_core::node::NodeImage;
use samara_core::objects::Fetched;
use samara_core::oci::Module;
use samara_core::pull::{PullDecision, decide};
use samara_core::reasons::waiting;
use samara_images::{Image, ImageStore, Puller, Reference};
use tokio_util::sync::CancellationToken;

use crate::Compile;
pub use keyring::{Keyring, KeyringError};

use backoff::{Backoffs, What};
use code::Code;
pub use flights::PullLimits;

use flights::Flights;

/// After a pull that failed, the reason is shown as `ErrImagePull` for so long before the back-off shows.
const SHOW_ERROR: Duration = Duration::from_secs(2);

/// The node's images. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: ImageStore,
    flights: Flights,
    backoffs: Backoffs,
    code: Code,
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
    pub container: &'a Container,
    /// The pod's image pull secrets.
    pub secrets: &'a BTreeMap<String, Fetched<Secret>>,
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
    /// Over a store that may be shared with others.
    pub fn new(store: ImageStore, puller: Puller, limits: PullLimits, compile: Arc<dyn Compile>) -> Self {
        Self(Arc::new(Inner {
            code: Code::new(store.clone(), compile),
            flights: Flights::new(puller, limits),
            backoffs: Backoffs::default(),
            store,
        }))
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
        let present = self.present(&reference, name)?;
        let image = match decide(wish.container, present.is_some()) {
            PullDecision::UsePresent => {
                (wish.record)(events::already_present(name));
                present
            }
            PullDecision::NeverPull => {
                (wish.record)(events::never_pull(name));
                let message = events::never_pull_message(name);
                return Err(Failure::new(waiting::ERR_IMAGE_NEVER_PULL, message, Backoffs::longest(Timestamp::now())));
            }
            PullDecision::Pull => None,
        };
        let image = match image {
            Some(image) => image,
            None => self.pull(&wish, name, &reference).await?,
        };
        match self.0.code.of(&image, wish.container).await {
            Ok(module) => {
                self.0.backoffs.succeeded(wish.pod_uid, name);
                Ok(Ready { image, module })
            }
            Err(error) => {
                let failure =
                    self.0.backoffs.failed(What::Code, wish.pod_uid, name, &error.to_string(), Timestamp::now());
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

    async fn pull(&self, wish: &Wish<'_>, name: &str, reference: &Reference) -> Result<Arc<Image>, Failure> {
        if let Some(failure) = self.0.backoffs.waiting(What::Pull, wish.pod_uid, name, Timestamp::now()) {
            (wish.record)(events::back_off_pull(name));
            return Err(failure);
        }
        (wish.record)(events::pulling(name));
        let asked = Instant::now();
        let credentials = secrets::keyring(wish.secrets, wish.record).lookup(reference);
        match self.0.flights.pull(reference, credentials).await {
            Ok(pulled) => {
                // Who joined a pull that was under way has waited for less than all of it.
                let waited = asked.elapsed();
                (wish.record)(events::pulled(name, pulled.took.min(waited), waited, pulled.image.size));
                Ok(pulled.image)
            }
            Err(error) => {
                (wish.record)(events::pull_failed(name, &error));
                Err(self.0.backoffs.failed(What::Pull, wish.pod_uid, name, &error, Timestamp::now()))
            }
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
