//! The power goes between any two changes of the disk, and what was not flushed is lost: the store is as before, or as after.
//!
//! Three kinds of disk: one that keeps all names and loses content that was not flushed (a file is half there), one that loses
//! names which were not flushed as well (the rename did not happen), and one that keeps those of references and loses the others.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ImageStore;
use crate::{Artifact, Content, Digest, Image, ImageConfig, Import, Puller, PullerConfig, Reference, RootfsBuilder};

/// Steps until the power goes, and what would be lost then. The default has all the power in the world.
#[derive(Debug, Clone, Default)]
pub(super) struct Power(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    left: Option<usize>,
    taken: usize,
    /// Inodes of files, and of directories with all that is in them, whose content is not flushed.
    dirty: HashSet<u64>,
    /// Names which are not flushed, and what had them before.
    renamed: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Power {
    pub(super) fn step(&self) -> io::Result<()> {
        let mut state = self.lock();
        match state.left {
            Some(left) if state.taken >= left => Err(io::Error::other("the power is gone")),
            Some(_) | None => {
                state.taken += 1;
                Ok(())
            }
        }
    }

    pub(super) fn dirty(&self, file: &File) {
        self.lock().dirty.insert(inode(file));
    }

    pub(super) fn clean(&self, file: &File) {
        self.lock().dirty.remove(&inode(file));
    }

    pub(super) fn rename(&self, path: &Path) {
        let before = fs::read(path).ok();
        self.lock().renamed.push((path.to_owned(), before));
    }

    pub(super) fn names_are_safe(&self, directory: &Path) {
        self.lock().renamed.retain(|(path, _)| path.parent() != Some(directory));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

/// What the disk keeps of names that were not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Kept,
    Lost,
    LostButReferences,
}

impl Names {
    fn lose(self, path: &Path) -> bool {
        match self {
            Self::Kept => false,
            Self::Lost => true,
            Self::LostButReferences => !path.components().any(|part| part.as_os_str() == "references"),
        }
    }
}

/// The store as the next start finds it.
fn after_the_loss(store: &ImageStore, names: Names, to: &Path) {
    let state = store.inner.disk.power.lock();
    copy(store.root(), to, &state.dirty, false);
    for (path, before) in state.renamed.iter().rev().filter(|(path, _)| names.lose(path)) {
        let path = to.join(path.strip_prefix(store.root()).unwrap());
        match (before, path.is_dir()) {
            (Some(bytes), _) => fs::write(&path, bytes).unwrap(),
            (None, true) => fs::remove_dir_all(&path).unwrap(),
            (None, false) => drop(fs::remove_file(&path)),
        }
    }
}

fn copy(from: &Path, to: &Path, dirty: &HashSet<u64>, all: bool) {
    let all = all || dirty.contains(&fs::metadata(from).unwrap().ino());
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, about) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        let target = to.join(path.file_name().unwrap());
        if about.is_dir() {
            copy(&path, &target, dirty, all);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if all || dirty.contains(&about.ino()) {
            bytes.truncate(bytes.len() / 2);
        }
        fs::write(target, bytes).unwrap();
    }
}

/// Two versions of an image as layouts, and a store with the first.
struct Scene {
    directory: tempfile::TempDir,
    name: Reference,
}

impl Scene {
    async fn new(versions: [Artifact; 2]) -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap(), name: Reference::parse("r.test/app:1").unwrap() };
        for (number, artifact) in versions.iter().enumerate() {
            artifact.write_layout(&scene.layout(number)).unwrap();
        }
        let store = ImageStore::open(&scene.path("before")).unwrap();
        scene.import(&store, 0).await.unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn layout(&self, version: usize) -> PathBuf {
        self.path(&format!("layout-{version}"))
    }

    async fn import(&self, store: &ImageStore, version: usize) -> Result<Image, crate::ImportError> {
        let puller = Puller::new(store.clone(), PullerConfig::default());
        let imported = puller.import(Import::Directory(self.layout(version)), Some(&self.name), &()).await;
        imported.map(|images| images[0].0.clone())
    }

    /// A copy of the store with the first version, whose power goes after some steps.
    fn store(&self, name: &str, steps: Option<usize>) -> ImageStore {
        copy(&self.path("before"), &self.path(name), &HashSet::new(), false);
        let store = ImageStore::open(&self.path(name)).unwrap();
        store.inner.disk.power.lock().left = steps;
        store
    }

    /// For each step: what it does until then, and what the next start finds.
    async fn every_loss<T>(
        &self,
        work: impl AsyncFn(&ImageStore) -> Result<T, String>,
        look: impl AsyncFn(&ImageStore, &str),
    ) {
        let mut steps = 0;
        loop {
            let name = format!("run-{steps}");
            let store = self.store(&name, Some(steps));
            let done = work(&store).await;
            for names in [Names::Kept, Names::Lost, Names::LostButReferences] {
                let copy = self.path(&format!("{name}-{names:?}"));
                after_the_loss(&store, names, &copy);
                let what = format!("after {steps} steps, names {names:?}");
                look(&ImageStore::open(&copy).unwrap(), &what).await;
                fs::remove_dir_all(copy).unwrap();
            }
            fs::remove_dir_all(self.path(&name)).unwrap();
            if done.is_ok() {
                assert!(steps > 5, "there is something to be lost");
                return;
            }
            steps += 1;
        }
    }
}

/// Everything with a name is what its name says, down to the files of layers.
fn whole(store: &ImageStore, what: &str) {
    for entry in fs::read_dir(store.root().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("sha256:{}", path.file_name().unwrap().to_str().unwrap());
        assert_eq!(Digest::of(&fs::read(&path).unwrap()).as_str(), name, "{what}");
    }
    for entry in fs::read_dir(store.root().join("layers/sha256")).unwrap() {
        let file = entry.unwrap().path().join("app");
        assert_eq!(fs::read(&file).map(|bytes| bytes.len()).unwrap_or_default(), LENGTH, "{what}: {}", file.display());
    }
}

const LENGTH: usize = 5000;

fn bytes(version: u8) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.resize(LENGTH, version);
    bytes
}

/// The artifact reads its file, which is made in `files`, when it is written.
fn module(files: &Path, version: u8) -> Artifact {
    let file = files.join(version.to_string());
    fs::write(&file, bytes(version)).unwrap();
    Artifact::wasm(&file).unwrap()
}

fn root(version: u8) -> Artifact {
    let config = ImageConfig { entrypoint: vec!["/app".to_owned()], ..ImageConfig::default() };
    RootfsBuilder::new().config(config).bytes("/app", bytes(version), 0o755).unwrap().build().unwrap()
}

fn version(image: &Image) -> u8 {
    let path = match &image.content {
        Content::Module { path, .. } => path.clone(),
        Content::Rootfs { layers } => layers[0].join("app"),
    };
    fs::read(path).unwrap()[LENGTH - 1]
}

async fn a_pull_leaves_the_old_or_the_new(versions: [Artifact; 2]) {
    let scene = Scene::new(versions).await;
    scene
        .every_loss(
            async |store| scene.import(store, 1).await.map(drop).map_err(|error| error.to_string()),
            async |store, what| {
                whole(store, what);
                let image = store.get(&scene.name).unwrap().unwrap_or_else(|| panic!("{what}: there is none"));
                assert!([1, 2].contains(&version(&image)), "{what}");
                // And it goes on from there.
                assert_eq!(version(&scene.import(store, 1).await.unwrap()), 2, "{what}");
                store.collect().unwrap().unwrap();
                whole(store, what);
                assert_eq!(version(&store.get(&scene.name).unwrap().unwrap()), 2, "{what}");
            },
        )
        .await;
}

#[tokio::test]
async fn a_pull_of_a_module_leaves_the_old_or_the_new() {
    let files = tempfile::tempdir().unwrap();
    a_pull_leaves_the_old_or_the_new([1, 2].map(|version| module(files.path(), version))).await;
}

#[tokio::test]
async fn a_pull_of_a_root_leaves_the_old_or_the_new() {
    a_pull_leaves_the_old_or_the_new([root(1), root(2)]).await;
}

#[tokio::test]
async fn removing_leaves_an_image_whole_or_not_at_all_and_the_others_untouched() {
    let scene = Scene::new([root(1), root(2)]).await;
    let other = Reference::parse("r.test/other:1").unwrap();
    {
        let store = ImageStore::open(&scene.path("before")).unwrap();
        let puller = Puller::new(store, PullerConfig::default());
        puller.import(Import::Directory(scene.layout(1)), Some(&other), &()).await.unwrap();
    }
    let remove = async |store: &ImageStore| {
        let digest = store.get(&scene.name).map_err(|error| error.to_string())?.map(|image| image.digest);
        store.remove_image(&digest.ok_or("gone")?).map_err(|error| error.to_string())?;
        store.collect().map(drop).map_err(|error| error.to_string())
    };
    let look = async |store: &ImageStore, what: &str| {
        whole(store, what);
        assert_eq!(version(&store.get(&other).unwrap().unwrap()), 2, "{what}");
        if let Some(image) = store.get(&scene.name).unwrap() {
            assert_eq!(version(&image), 1, "{what}");
        }
        assert_eq!(version(&scene.import(store, 0).await.unwrap()), 1, "{what}");
    };
    scene.every_loss(remove, look).await;
}
