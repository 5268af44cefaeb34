//! Random histories of a root file system, made into layers as image builders do, against what overlay and our own look-up show of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::mount::{MountFlags, UnmountFlags};

use super::*;
use crate::unpack::UnpackLimits;

/// A file system: what is at each path.
type Tree = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File(u8),
    Link(String),
}

/// One change to the tree.
#[derive(Debug, Clone)]
enum Change {
    File(String, u8),
    Directory(String),
    Link(String, String),
    Remove(String),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(path, content)| Change::File(path, content)),
        2 => path().prop_map(Change::Directory),
        1 => (path(), path()).prop_map(|(path, target)| Change::Link(path, target)),
        3 => path().prop_map(Change::Remove),
    ]
}

fn remove(tree: &mut Tree, path: &str) {
    let below = format!("{path}/");
    tree.retain(|other, _| other != path && !other.starts_with(&below));
}

fn apply(tree: &mut Tree, change: Change) {
    let (path, node) = match change {
        Change::Remove(path) => return remove(tree, &path),
        Change::File(path, content) => (path, Node::File(content)),
        Change::Link(path, target) => (path, Node::Link(target)),
        Change::Directory(path) if tree.get(&path) == Some(&Node::Directory) => return,
        Change::Directory(path) => (path, Node::Directory),
    };
    for (end, _) in path.match_indices('/') {
        let parent = &path[..end];
        if tree.get(parent) != Some(&Node::Directory) {
            remove(tree, parent);
            tree.insert(parent.to_owned(), Node::Directory);
        }
    }
    remove(tree, &path);
    tree.insert(path, node);
}

/// The difference as an archive: whiteouts and new entries with their parents, in any order that has parents first.
fn layer(before: &Tree, after: &Tree, seed: u64) -> Vec<u8> {
    let parents =
        |path: &str| -> Vec<String> { path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect() };
    let mut made: BTreeSet<String> = BTreeSet::new();
    let mut gone: BTreeSet<String> = BTreeSet::new();
    for (path, node) in after {
        if before.get(path) != Some(node) {
            made.extend(parents(path));
            made.insert(path.clone());
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        // Only the topmost, and not what a file now stands above of.
        let hidden = parents(path).iter().any(|parent| after.get(parent) != Some(&Node::Directory));
        if !hidden {
            made.extend(parents(path));
            gone.insert(path.clone());
        }
    }
    let mut steps: Vec<(bool, String)> = made.into_iter().map(|path| (false, path)).collect();
    for path in gone {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        let at = match parent {
            None => seed as usize % (steps.len() + 1),
            Some(parent) => {
                let first =
                    steps.iter().position(|(whiteout, step)| !whiteout && *step == parent).map_or(0, |it| it + 1);
                first + seed as usize % (steps.len() + 1 - first)
            }
        };
        steps.insert(at, (true, path));
    }
    let mut archive = tar::Builder::new(Vec::new());
    for (whiteout, path) in steps {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        if whiteout {
            let (parent, name) = path
                .rsplit_once('/')
                .map_or((String::new(), path.as_str()), |(parent, name)| (format!("{parent}/"), name));
            archive.append_data(&mut header, format!("{parent}.wh.{name}"), std::io::empty()).unwrap();
            continue;
        }
        match &after[&path] {
            Node::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                archive.append_data(&mut header, &path, std::io::empty()).unwrap();
            }
            Node::File(content) => {
                header.set_size(1);
                archive.append_data(&mut header, &path, [*content].as_slice()).unwrap();
            }
            Node::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, &path, target).unwrap();
            }
        }
    }
    archive.into_inner().unwrap()
}

/// An overlay of some layers, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(layers: &[PathBuf], empty: &Path, at: &Path) -> Self {
        // Overlay without an upper directory wants two below.
        let lower = layers.iter().rev().map(PathBuf::as_path).chain([empty]);
        let lower: Vec<String> = lower.map(|path| path.display().to_string()).collect();
        let options = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
        rustix::mount::mount("overlay", at, "overlay", MountFlags::RDONLY, Some(options.as_c_str())).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let node = if about.is_dir() {
                ahead.push(path.clone());
                Node::Directory
            } else if about.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                Node::File(fs::read(&path).unwrap()[0])
            };
            tree.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), node);
        }
    }
    tree
}

async fn unpacked(store: &ImageStore, archive: &[u8]) -> PathBuf {
    let digest = Digest::of(archive);
    let mut writer = store.write_blob(&digest).unwrap();
    writer.write(bytes::Bytes::copy_from_slice(archive)).await.unwrap();
    writer.commit().await.unwrap();
    store.unpack_layer(&digest, &digest, UnpackLimits::default()).await.unwrap();
    store.layer_path(&digest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Each version of the tree comes back from the layers up to it: from the kernel's overlay, and from our look-up.
    #[test]
    fn layers_show_the_tree_they_were_made_from(
        history in proptest::collection::vec(proptest::collection::vec(change(), 1..8), 1..5),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&scratch.path().join("store")).unwrap();
        for name in ["empty", "root"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let mut tree = Tree::new();
        let mut layers = Vec::new();
        for changes in history {
            let before = tree.clone();
            for change in changes {
                apply(&mut tree, change);
            }
            layers.push(runtime.block_on(unpacked(&store, &layer(&before, &tree, seed))));
            let root = scratch.path().join("root");
            let layers = stack(layers.clone());
            let mounted = Mounted::new(&layers, &scratch.path().join("empty"), &root);
            prop_assert_eq!(&read_tree(&root), &tree);
            for (path, node) in &tree {
                let found = lookup::open(&layers, path);
                let content = |mut file: File| { let mut bytes = Vec::new(); file.read_to_end(&mut bytes).unwrap(); bytes[0] };
                match node {
                    Node::File(byte) => prop_assert_eq!(found.unwrap().map(content), Some(*byte)),
                    Node::Directory => prop_assert!(found.unwrap().is_none()),
                    // Through the mount the kernel follows it; targets are relative to the link's directory, as written.
                    Node::Link(_) => {
                        let expected = fs::read(root.join(path)).ok().map(|bytes| bytes[0]);
                        prop_assert_eq!(found.ok().flatten().map(content), expected);
                    }
                }
            }
            prop_assert!(lookup::open(&layers, "no/such/thing").unwrap().is_none());
            drop(mounted);
        }
    }
}
