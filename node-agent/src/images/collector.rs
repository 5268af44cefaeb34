//! Removes images that nobody uses: the too old ones, and others when the disk gets full; their code with them.
//!
//! In use is what a container's bundle names, whether it runs or has ended, what others of this machine say that they use, and what
//! was asked for a moment ago.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use samara_core::events;
use samara_core::pull::gc::{Disk, ImageGcPolicy, TrackedImage};
use samara_images::{Digest, StoreError, StoredImage};
use tokio_util::sync::CancellationToken;

use super::Images;
use crate::events::Recorder;
use crate::metrics;
use crate::node::{HostError, disk_of};

/// Between rounds, as the kubelet has it.
const EVERY: Duration = Duration::from_secs(300);
/// Content cannot be removed while a pull adds some.
const AGAIN: Duration = Duration::from_secs(10);

/// Who uses images beside the pods that are looked for in their bundles.
pub trait ImageUsers: Send + Sync + 'static {
    /// Digests of manifests; or why they are not known: then nothing is removed.
    fn images_in_use(&self) -> Result<BTreeSet<String>, String>;
}

impl<F: Fn() -> Result<BTreeSet<String>, String> + Send + Sync + 'static> ImageUsers for F {
    fn images_in_use(&self) -> Result<BTreeSet<String>, String> {
        self()
    }
}

/// Looks after the images that nobody uses.
pub struct Collector {
    images: Images,
    policy: ImageGcPolicy,
    users: Vec<Arc<dyn ImageUsers>>,
    tracked: BTreeMap<String, TrackedImage>,
    since: Timestamp,
}

/// A round did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("looking at the images")]
    Store(#[from] StoreError),
    #[error("looking at who uses images: {0}")]
    Users(String),
    #[error("measuring the disk of images")]
    Disk(#[from] HostError),
    #[error("invalid capacity 0 on image filesystem")]
    NoCapacity,
    /// In the kubelet's words.
    #[error(
        "Insufficient free disk space on the node's image filesystem ({used_percent}% of {capacity} bytes used). Failed to free sufficient \
         space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active \
         images, logs, volumes, or other data."
    )]
    NotEnough { used_percent: u64, capacity: u64, freed: u64 },
}

/// What a round did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    /// Digests of the images that went, for their age or for space.
    pub removed: Vec<String>,
    /// Content of theirs is still there, because a pull is under way.
    pub unfinished: bool,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector")
            .field("policy", &self.policy)
            .field("tracked", &self.tracked)
            .finish_non_exhaustive()
    }
}

impl Collector {
    /// Begins to look now.
    pub fn new(images: Images, policy: ImageGcPolicy, users: Vec<Arc<dyn ImageUsers>>, now: Timestamp) -> Self {
        Self { images, policy, users, tracked: BTreeMap::new(), since: now }
    }

    /// A round every five minutes, until `shutdown`. Failures are told of as events of the Node: the first one may pass.
    pub async fn keep(mut self, node: ObjectReference, recorder: Recorder, shutdown: CancellationToken) {
        let mut failed_before = false;
        loop {
            let round = tokio::task::spawn_blocking(move || {
                let round = self.round(Timestamp::now(), &disk_of_images);
                (self, round)
            });
            let Ok((collector, round)) = round.await else { return };
            self = collector;
            let pause = match &round {
                Ok(round) if round.unfinished => AGAIN,
                Ok(_) | Err(_) => EVERY,
            };
            if let Err(error) = &round {
                let message = super::text(error);
                tracing::warn!(error = message, "images are not collected as they should be");
                match error {
                    CollectError::NotEnough { .. } => {
                        recorder.record(node.clone(), events::free_disk_space_failed(&message));
                    }
                    CollectError::NoCapacity => recorder.record(node.clone(), events::invalid_disk_capacity(&message)),
                    CollectError::Store(_) | CollectError::Users(_) | CollectError::Disk(_) => {}
                }
                if failed_before {
                    recorder.record(node.clone(), events::image_gc_failed(&message));
                }
            }
            failed_before = round.is_err();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round. Blocks.
    pub fn round(
        &mut self,
        now: Timestamp,
        disk_of: &dyn Fn(&Path) -> Result<Disk, HostError>,
    ) -> Result<Round, CollectError> {
        let unused = self.look(now)?;
        let mut round = Round::default();
        for image in self.policy.too_old(&unused, self.since, now) {
            if self.remove(image, "age", now)? {
                round.removed.push(image.digest.clone());
            }
        }
        let unused: Vec<_> = unused.into_iter().filter(|image| !round.removed.contains(&image.digest)).collect();
        if !round.removed.is_empty() {
            round.unfinished = !self.sweep()?;
        }
        let disk = disk_of(self.images.store().root())?;
        if disk.capacity == 0 {
            return Err(CollectError::NoCapacity);
        }
        let mut freed = 0;
        let wanted = self.policy.to_free(disk);
        for image in wanted.map(|bytes| self.policy.for_space(&unused, bytes, now)).unwrap_or_default() {
            if self.remove(image, "space", now)? {
                freed += image.size;
                round.removed.push(image.digest.clone());
            }
        }
        // Also what pulls that failed have left, and images that were removed by others.
        round.unfinished = !self.sweep()?;
        match wanted {
            Some(bytes) if freed < bytes => {
                let used_percent = self.policy.used_percent(disk);
                Err(CollectError::NotEnough { used_percent, capacity: disk.capacity, freed })
            }
            Some(_) | None => Ok(round),
        }
    }

    /// What is here and not in use; remembers since when, and when it was used.
    fn look(&mut self, now: Timestamp) -> Result<Vec<TrackedImage>, CollectError> {
        // Before the list: what comes into use in between is held.
        let mut used = BTreeSet::new();
        for users in &self.users {
            used.extend(users.images_in_use().map_err(CollectError::Users)?);
        }
        let mut tracked = BTreeMap::new();
        let mut unused = Vec::new();
        for image in self.images.store().list()? {
            let digest = image.digest.to_string();
            let before = self.tracked.remove(&digest);
            let mut image = TrackedImage {
                size: image.size,
                detected: before.as_ref().map_or_else(|| self.came(&image, now), |before| before.detected),
                last_used: before.and_then(|before| before.last_used),
                digest: digest.clone(),
            };
            if used.contains(&digest) || self.images.is_held(&digest, now) {
                image.last_used = Some(now);
            } else {
                unused.push(image.clone());
            }
            tracked.insert(digest, image);
        }
        self.tracked = tracked;
        Ok(unused)
    }

    /// Now, when we first see it; what was here before this agent came when the store says so.
    fn came(&self, image: &StoredImage, now: Timestamp) -> Timestamp {
        let second = i64::try_from(image.pulled_at).ok().filter(|second| *second < self.since.as_second());
        second.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(now)
    }

    fn remove(&self, image: &TrackedImage, reason: &'static str, now: Timestamp) -> Result<bool, StoreError> {
        let Ok(digest) = image.digest.parse::<Digest>() else { return Ok(false) };
        let removed = self.images.remove_unless_held(&digest, now)?;
        if removed {
            tracing::info!(image = image.digest, size = image.size, reason, "image removed");
            metrics::agent().image_collected(reason);
        }
        Ok(removed)
    }

    /// Removes what belongs to no image any more: code, records, content. `false`: content stays, because a pull is under way.
    fn sweep(&self) -> Result<bool, StoreError> {
        self.images.forget_gone()?;
        Ok(self.images.store().collect()?.is_some())
    }
}

/// The disk that holds a path, in the rules' terms.
fn disk_of_images(path: &Path) -> Result<Disk, HostError> {
    disk_of(path).map(|disk| Disk { capacity: disk.total, available: disk.available })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use jiff::SignedDuration;
    use k8s_openapi::api::core::v1::Container;
    use rustix::mount::{MountFlags, UnmountFlags};
    use samara_images::{Artifact, Import, Puller, PullerConfig, Reference};

    use super::*;
    use crate::images::{Rules, Wish};
    use crate::{Compile, CompileError};

    /// Remembers whose code it has.
    #[derive(Default)]
    struct Codes(Mutex<BTreeSet<String>>);

    #[async_trait]
    impl Compile for Codes {
        async fn ensure(&self, _: File, digest: &str) -> Result<(), CompileError> {
            self.0.lock().unwrap().insert(digest.to_owned());
            Ok(())
        }

        fn forget(&self, digest: &str) -> Result<(), CompileError> {
            self.0.lock().unwrap().remove(digest);
            Ok(())
        }
    }

    /// A small disk of its own, with images on it.
    struct Place {
        directory: tempfile::TempDir,
        images: Images,
        codes: Arc<Codes>,
        used: Arc<Mutex<BTreeSet<String>>>,
    }

    const MEGABYTE: usize = 1 << 20;
    const DISK: &str = "size=20m";

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let options = std::ffi::CString::new(DISK).unwrap();
            rustix::mount::mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
                .unwrap();
            let store = samara_images::ImageStore::open(&directory.path().join("images")).unwrap();
            let codes: Arc<Codes> = Arc::default();
            let puller = Puller::new(store, PullerConfig::default());
            let records = directory.path().join("records");
            let images = Images::open(puller, records, Rules::default(), codes.clone()).unwrap();
            Self { directory, images, codes, used: Arc::default() }
        }

        fn collector(&self, policy: ImageGcPolicy, now: Timestamp) -> Collector {
            let used = self.used.clone();
            let users: Arc<dyn ImageUsers> = Arc::new(move || Ok(used.lock().unwrap().clone()));
            Collector::new(self.images.clone(), policy, vec![users], now)
        }

        /// An image with a module of about so many bytes, by way of a layout that is elsewhere; and its code, as for a container.
        async fn add(&self, name: &str, length: usize) -> String {
            let elsewhere = tempfile::tempdir().unwrap();
            let (wasm, layout): (PathBuf, PathBuf) = (elsewhere.path().join("wasm"), elsewhere.path().join("layout"));
            let mut bytes = b"\0asm\x01\0\0\0".to_vec();
            bytes.extend(name.bytes());
            bytes.resize(length, 0);
            std::fs::write(&wasm, bytes).unwrap();
            Artifact::wasm(&wasm).unwrap().write_layout(&layout).unwrap();
            let puller = Puller::new(self.images.store().clone(), PullerConfig::default());
            let reference = Reference::parse(name).unwrap();
            puller.import(Import::Directory(layout), Some(&reference), &()).await.unwrap();
            self.ensure(name).await
        }

        /// As for a container.
        async fn ensure(&self, name: &str) -> String {
            let container = Container {
                image: Some(name.to_owned()),
                image_pull_policy: Some("Never".to_owned()),
                ..Container::default()
            };
            let wish = Wish {
                pod_uid: "uid",
                namespace: "shop",
                container: &container,
                secrets: &BTreeMap::new(),
                account: None,
                record: &|_| {},
            };
            self.images.ensure(wish).await.unwrap().image.digest.to_string()
        }

        fn here(&self) -> BTreeSet<String> {
            self.images.store().list().unwrap().into_iter().map(|image| image.digest.to_string()).collect()
        }

        fn disk(&self) -> Disk {
            disk_of_images(self.directory.path()).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            rustix::mount::unmount(self.directory.path(), UnmountFlags::DETACH).unwrap();
        }
    }

    fn later(now: Timestamp, seconds: i64) -> Timestamp {
        now + SignedDuration::from_secs(seconds)
    }

    fn set<const N: usize>(names: [&String; N]) -> BTreeSet<String> {
        names.into_iter().cloned().collect()
    }

    #[tokio::test]
    async fn an_agent_that_has_just_begun_knows_how_long_images_have_been_here() {
        let place = Place::new();
        let now = Timestamp::now();
        let image = place.add("a.test/a:1", 17 * MEGABYTE).await;
        let round = |seconds| {
            let began = later(now, seconds);
            place.collector(ImageGcPolicy::default(), began).round(began, &disk_of_images)
        };
        assert!(matches!(round(100).unwrap_err(), CollectError::NotEnough { freed: 0, .. }));
        assert_eq!(round(130).unwrap().removed, [image]);
    }

    #[tokio::test]
    async fn a_full_disk_loses_the_longest_unused_images_with_their_code_and_never_one_in_use() {
        let place = Place::new();
        let now = Timestamp::now();
        let [a, b, c, d] = ["a.test/a:1", "a.test/b:1", "a.test/c:1", "a.test/d:1"];
        let (a, b) = (place.add(a, 4 * MEGABYTE).await, place.add(b, 4 * MEGABYTE).await);
        let (c, d) = (place.add(c, 4 * MEGABYTE).await, place.add(d, 5 * MEGABYTE).await);
        assert_eq!(place.codes.0.lock().unwrap().len(), 4);
        let mut collector = place.collector(ImageGcPolicy::default(), now);
        // All were asked for a moment ago: over the mark, and nothing to remove.
        let error = collector.round(now, &disk_of_images).unwrap_err();
        assert!(error.to_string().starts_with("Insufficient free disk space"), "{error}");
        assert_eq!(place.here().len(), 4);
        // `a` and `b` are in use: one of the others is enough.
        *place.used.lock().unwrap() = set([&a, &b]);
        let round = collector.round(later(now, 130), &disk_of_images).unwrap();
        let left = if round.removed.contains(&c) { d } else { c };
        assert_eq!(round.removed.len(), 1, "{round:?}");
        assert_eq!(place.here(), set([&a, &b, &left]), "{round:?}");
        assert_eq!(place.codes.0.lock().unwrap().len(), 3, "code goes with its image");
        let used = 100 - place.disk().available * 100 / place.disk().capacity;
        assert!(used <= 80, "{used}");
        // Nothing goes below the mark.
        *place.used.lock().unwrap() = set([&a]);
        assert_eq!(collector.round(later(now, 500), &disk_of_images).unwrap(), Round::default());
        // More comes: `left` has not been used for longer than `b`, and what has just come is too young.
        let e = place.add("a.test/e:1", 6 * MEGABYTE).await;
        let round = collector.round(later(now, 600), &disk_of_images).unwrap();
        assert_eq!(round.removed, [left]);
        assert_eq!(place.here(), set([&a, &b, &e]));
        // What was removed is not half there: its file is gone, and it can be had again.
        assert_eq!(place.images.store().collect().unwrap().unwrap().blobs, 0);
        place.add("a.test/c:1", MEGABYTE).await;
    }

    #[tokio::test]
    async fn images_that_nobody_used_for_too_long_go_however_much_room_there_is() {
        let place = Place::new();
        let now = Timestamp::now();
        let (used, idle) = (place.add("a.test/used:1", 1000).await, place.add("a.test/idle:1", 1000).await);
        let policy = ImageGcPolicy { max_age: Duration::from_secs(3600), ..ImageGcPolicy::default() };
        let mut collector = place.collector(policy, now);
        *place.used.lock().unwrap() = set([&used]);
        for (second, expected) in [(0, set([&used, &idle])), (3600, set([&used, &idle])), (3601, set([&used]))] {
            let round = collector.round(later(now, second), &disk_of_images).unwrap();
            assert_eq!(place.here(), expected, "{second}: {round:?}");
        }
        assert_eq!(place.codes.0.lock().unwrap().len(), 1);
        // Its use ends, and its age begins.
        place.used.lock().unwrap().clear();
        collector.round(later(now, 7000), &disk_of_images).unwrap();
        assert_eq!(place.here(), set([&used]));
        collector.round(later(now, 7202), &disk_of_images).unwrap();
        assert_eq!(place.here(), set([]));
        assert_eq!(place.codes.0.lock().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn nothing_is_removed_while_it_is_not_known_who_uses_what() {
        let place = Place::new();
        let now = Timestamp::now();
        let image = place.add("a.test/a:1", 1000).await;
        let policy =
            ImageGcPolicy { max_age: Duration::from_secs(1), min_age: Duration::ZERO, ..ImageGcPolicy::default() };
        let unknown: Arc<dyn ImageUsers> = Arc::new(|| Err("cannot read".to_owned()));
        let mut collector = Collector::new(place.images.clone(), policy, vec![unknown], now);
        let error = collector.round(later(now, 9999), &disk_of_images).unwrap_err();
        assert!(matches!(error, CollectError::Users(_)), "{error}");
        assert_eq!(place.here(), set([&image]));
        let nothing = |_: &Path| Ok(Disk { capacity: 0, available: 0 });
        let error = place.collector(ImageGcPolicy::default(), now).round(now, &nothing).unwrap_err();
        assert!(matches!(error, CollectError::NoCapacity), "{error}");
    }
}
