//! What is known of how each image came here, on disk: it outlives this process (kubelet: `images/pullmanager/fs_pullrecords.go`).
//!
//! ```text
//! <dir>/pulling/sha256-<hash of the name>     a pull began; removed when it has ended and is recorded
//!       pulled/sha256-<hash of the digest>    by whose credentials it was pulled
//! ```
//!
//! A pull that this process does not survive leaves its intent behind: the next one takes the image, if it is there, for
//! one that a pod pulled, it is not known with what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use samara_core::pull::access::{CredentialMapping, ImagePullCredentials, Origin};
use samara_images::{Digest, ImageStore, Reference, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const PREFIX: &str = "sha256-";

/// The records of one node.
#[derive(Debug, Clone)]
pub(super) struct Records(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    store: ImageStore,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the image's digest.
    pulled: BTreeMap<String, CredentialMapping>,
    /// By the image's name: how many pulls there are.
    intended: BTreeMap<String, usize>,
    /// Names of files that cannot be read.
    damaged: BTreeSet<String>,
}

/// The records cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("cannot keep records of pulls in {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("looking for the images that records are of")]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PulledRecord {
    kind: String,
    api_version: String,
    last_updated_time: String,
    image_ref: String,
    #[serde(default)]
    credential_mapping: CredentialMapping,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    kind: String,
    api_version: String,
    image: String,
}

/// A pull that is under way. Dropped without [`Pull::done`], it has failed or is given up.
#[derive(Debug)]
pub(super) struct Pull {
    records: Records,
    reference: Reference,
    /// What the name stood for before.
    before: Option<Digest>,
}

impl Records {
    /// Reads what there is, and settles what an earlier process left unsettled.
    pub(super) fn open(directory: PathBuf, store: ImageStore) -> Result<Self, RecordsError> {
        for name in ["pulling", "pulled"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).map_err(|source| RecordsError::Io { path, source })?;
        }
        let mut damaged = BTreeSet::new();
        let pulled = read_all::<PulledRecord>(&directory.join("pulled"), &mut damaged)?;
        let intents = read_all::<Intent>(&directory.join("pulling"), &mut damaged)?;
        let pulled = pulled.into_iter().map(|(_, record)| (record.image_ref, record.credential_mapping)).collect();
        let known = Mutex::new(Known { pulled, damaged, ..Known::default() });
        let records = Self(Arc::new(Inner { directory, store, known }));
        for (path, intent) in intents {
            if let Ok(reference) = Reference::parse(&intent.image)
                && let Some(image) = records.0.store.get(&reference)?
            {
                records.note(&image.digest, &reference, ImagePullCredentials::default())?;
            }
            fs::remove_file(&path).map_err(|source| RecordsError::Io { path, source })?;
        }
        Ok(records)
    }

    /// Asks about the origin of an image that is here.
    pub(super) fn with_origin<T>(
        &self,
        digest: &Digest,
        reference: &Reference,
        ask: impl FnOnce(Origin<'_>) -> T,
    ) -> T {
        let known = self.lock();
        ask(match known.pulled.get(digest.as_str()) {
            Some(mapping) => Origin::Pulled(mapping),
            None if known.intended.contains_key(&reference.to_string()) => Origin::Intended,
            None if known.is_damaged(digest.as_str()) || known.is_damaged(&reference.to_string()) => Origin::Intended,
            None => Origin::Unknown,
        })
    }

    /// A pull begins.
    pub(super) async fn begin(&self, reference: &Reference) -> Result<Pull, RecordsError> {
        let (records, reference) = (self.clone(), reference.clone());
        apart(move || records.begin_now(&reference)).await
    }

    fn begin_now(&self, reference: &Reference) -> Result<Pull, RecordsError> {
        let before = self.0.store.get(reference)?.map(|image| image.digest);
        let name = reference.to_string();
        let mut known = self.lock();
        let intent = Intent { kind: "ImagePullIntent".into(), api_version: API_VERSION.into(), image: name.clone() };
        if !known.intended.contains_key(&name) {
            // A look whether a recorded image has changed is made for each start of some pods: it waits for no disk.
            let is_recorded = before.as_ref().is_some_and(|digest| known.pulled.contains_key(digest.as_str()));
            write(&self.intent_path(&name), &intent, if is_recorded { Flush::Later } else { Flush::Now })?;
        }
        *known.intended.entry(name).or_default() += 1;
        Ok(Pull { records: self.clone(), reference: reference.clone(), before })
    }

    /// Notes once more how an image was opened.
    pub(super) fn note(
        &self,
        digest: &Digest,
        reference: &Reference,
        credentials: ImagePullCredentials,
    ) -> Result<(), RecordsError> {
        let mut known = self.lock();
        let is_new = !known.pulled.contains_key(digest.as_str());
        let mapping = known.pulled.entry(digest.to_string()).or_default();
        let name = reference.name();
        let changed = match credentials == ImagePullCredentials::default() {
            true => false,
            false => mapping.entry(name).or_default().merge(credentials),
        };
        if !changed && !is_new {
            return Ok(());
        }
        let record = PulledRecord {
            kind: "ImagePulledRecord".into(),
            api_version: API_VERSION.into(),
            last_updated_time: Timestamp::now().to_string(),
            image_ref: digest.to_string(),
            credential_mapping: mapping.clone(),
        };
        write(&self.pulled_path(digest.as_str()), &record, Flush::Now)
    }

    /// Forgets images that are gone.
    pub(super) fn forget_gone(&self) -> Result<(), StoreError> {
        // Nobody records a pull meanwhile: what is recorded is listed.
        let mut known = self.lock();
        let here: BTreeSet<String> = self.0.store.list()?.into_iter().map(|image| image.digest.to_string()).collect();
        let gone: Vec<String> = known.pulled.keys().filter(|digest| !here.contains(*digest)).cloned().collect();
        for digest in gone {
            known.pulled.remove(&digest);
            let path = self.pulled_path(&digest);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a record of a pull stays");
            }
        }
        Ok(())
    }

    fn intent_path(&self, name: &str) -> PathBuf {
        self.0.directory.join("pulling").join(file_name(name))
    }

    fn pulled_path(&self, digest: &str) -> PathBuf {
        self.0.directory.join("pulled").join(file_name(digest))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_damaged(&self, of: &str) -> bool {
        !self.damaged.is_empty() && self.damaged.contains(&file_name(of))
    }
}

impl Pull {
    /// The image is here; this is how it was opened.
    pub(super) async fn done(mut self, digest: &Digest, credentials: ImagePullCredentials) -> Result<(), RecordsError> {
        self.before = Some(digest.clone());
        let digest = digest.clone();
        apart(move || self.records.note(&digest, &self.reference, credentials)).await
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        // Given up right after the image came: nobody knows by whose right.
        let now = self.records.0.store.get(&self.reference).ok().flatten().map(|image| image.digest);
        if let Some(digest) = now.filter(|now| self.before.as_ref() != Some(now))
            && let Err(error) = self.records.note(&digest, &self.reference, ImagePullCredentials::default())
        {
            tracing::warn!(image = %self.reference, %error, "a pull is not recorded");
        }
        let name = self.reference.to_string();
        let mut known = self.records.lock();
        match known.intended.get_mut(&name) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                known.intended.remove(&name);
                let path = self.records.intent_path(&name);
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "the intent of a pull stays");
                }
            }
        }
    }
}

fn file_name(of: &str) -> String {
    format!("{PREFIX}{}", hex::encode(Sha256::digest(of.as_bytes())))
}

/// Where waiting for the disk holds up nobody.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordsError> + Send + 'static,
) -> Result<T, RecordsError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let source = io::Error::other(error);
        Err(RecordsError::Io { path: PathBuf::new(), source })
    })
}

/// Whether it has to survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    Now,
    Later,
}

/// Whole or not at all.
fn write(path: &Path, record: &impl Serialize, flush: Flush) -> Result<(), RecordsError> {
    let written = || -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(&serde_json::to_vec(record).map_err(io::Error::other)?)?;
        if flush == Flush::Now {
            file.as_file().sync_all()?;
        }
        file.persist(path).map_err(|error| error.error)?;
        match flush {
            Flush::Now => fs::File::open(parent)?.sync_all(),
            Flush::Later => Ok(()),
        }
    };
    written().map_err(|source| RecordsError::Io { path: path.to_owned(), source })
}

/// All of a directory, and the names of what cannot be read: what those are of is asked for at its registry again.
fn read_all<T: DeserializeOwned>(
    directory: &Path,
    damaged: &mut BTreeSet<String>,
) -> Result<Vec<(PathBuf, T)>, RecordsError> {
    let failed = |source| RecordsError::Io { path: directory.to_owned(), source };
    let mut records = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            // Half written.
            fs::remove_file(&path).map_err(failed)?;
            continue;
        }
        match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(record)) => records.push((path, record)),
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "a record of a pull is damaged");
                damaged.insert(name);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use samara_core::pull::access::ImagePullSecret;
    use samara_images::{Artifact, Import, Puller, PullerConfig};

    use super::*;

    struct Scene {
        directory: tempfile::TempDir,
        store: ImageStore,
    }

    impl Scene {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = ImageStore::open(&directory.path().join("images")).unwrap();
            Self { directory, store }
        }

        fn records(&self) -> Records {
            Records::open(self.directory.path().join("records"), self.store.clone()).unwrap()
        }

        /// An image, by way of a layout.
        async fn image(&self, name: &str) -> (Reference, Digest) {
            let reference = Reference::parse(name).unwrap();
            let wasm = self.directory.path().join("app.wasm");
            fs::write(&wasm, b"\0asm\x01\0\0\0").unwrap();
            let layout = self.directory.path().join("layout");
            Artifact::wasm(&wasm).unwrap().write_layout(&layout).unwrap();
            let puller = Puller::new(self.store.clone(), PullerConfig::default());
            let imported = puller.import(Import::Directory(layout), Some(&reference), &()).await.unwrap();
            let digest = imported[0].0.digest.clone();
            (reference, digest)
        }
    }

    fn by(name: &str) -> ImagePullCredentials {
        let secret = ImagePullSecret {
            uid: "1".into(),
            namespace: "shop".into(),
            name: name.into(),
            credential_hash: "h".into(),
        };
        ImagePullCredentials { kubernetes_secrets: vec![secret], ..ImagePullCredentials::default() }
    }

    /// What a look at the origin says, in a word.
    fn origin(records: &Records, digest: &Digest, reference: &Reference) -> String {
        records.with_origin(digest, reference, |origin| match origin {
            Origin::Unknown => "unknown".to_owned(),
            Origin::Intended => "intended".to_owned(),
            Origin::Pulled(mapping) => match mapping.get(&reference.name()) {
                None => "unclear".to_owned(),
                Some(credentials) => credentials.kubernetes_secrets[0].name.clone(),
            },
        })
    }

    #[tokio::test]
    async fn what_is_known_survives_a_restart_and_goes_with_the_image() {
        let scene = Scene::new();
        let (name, digest) = scene.image("r.test/app:1").await;
        let records = scene.records();
        assert_eq!(origin(&records, &digest, &name), "unknown");
        records.begin(&name).await.unwrap().done(&digest, by("pull")).await.unwrap();
        let other = Reference::parse("r.test/app:2").unwrap();
        let elsewhere = Reference::parse("mirror.test/app:1").unwrap();
        for records in [&records, &scene.records()] {
            assert_eq!(origin(records, &digest, &name), "pull");
            // Another tag of the same repository is opened by the same; another repository is not.
            assert_eq!(origin(records, &digest, &other), "pull");
            assert_eq!(origin(records, &digest, &elsewhere), "unclear");
        }
        let records = scene.records();
        records.forget_gone().unwrap();
        assert_eq!(origin(&records, &digest, &name), "pull");
        scene.store.remove_image(&digest).unwrap();
        records.forget_gone().unwrap();
        assert_eq!(origin(&scene.records(), &digest, &name), "unknown");
    }

    #[tokio::test]
    async fn a_pull_that_its_process_did_not_survive_leaves_the_image_to_be_asked_for() {
        let scene = Scene::new();
        let (name, digest) = scene.image("r.test/app:1").await;
        let absent = Reference::parse("r.test/absent:1").unwrap();
        let records = scene.records();
        for name in [&name, &absent] {
            std::mem::forget(records.begin(name).await.unwrap());
        }
        assert_eq!(origin(&records, &digest, &name), "intended");
        let after = scene.records();
        assert_eq!(origin(&after, &digest, &name), "unclear");
        assert_eq!(fs::read_dir(scene.directory.path().join("records/pulling")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_pull_that_is_given_up_after_the_image_came_is_recorded_and_one_before_is_not() {
        let scene = Scene::new();
        let records = scene.records();
        let name = Reference::parse("r.test/app:1").unwrap();
        let (one, two) = (records.begin(&name).await.unwrap(), records.begin(&name).await.unwrap());
        drop(one);
        let (_, digest) = scene.image("r.test/app:1").await;
        assert_eq!(origin(&records, &digest, &name), "intended");
        drop(two);
        assert_eq!(origin(&records, &digest, &name), "unclear");
        // It was here before: a pull that fails says nothing of it.
        let (preloaded, digest) = scene.image("r.test/preloaded:1").await;
        let scene = Scene { store: scene.store.clone(), directory: tempfile::tempdir().unwrap() };
        let records = scene.records();
        drop(records.begin(&preloaded).await.unwrap());
        assert_eq!(origin(&records, &digest, &preloaded), "unknown");
    }

    #[tokio::test]
    async fn a_damaged_record_opens_nothing() {
        let scene = Scene::new();
        let (name, digest) = scene.image("r.test/app:1").await;
        scene.records().begin(&name).await.unwrap().done(&digest, by("pull")).await.unwrap();
        for entry in fs::read_dir(scene.directory.path().join("records/pulled")).unwrap() {
            fs::write(entry.unwrap().path(), "{").unwrap();
        }
        fs::write(scene.directory.path().join("records/pulled/.tmp1"), "half").unwrap();
        let records = scene.records();
        assert_eq!(origin(&records, &digest, &name), "intended");
        records.begin(&name).await.unwrap().done(&digest, by("new")).await.unwrap();
        assert_eq!(origin(&scene.records(), &digest, &name), "new");
    }
}
