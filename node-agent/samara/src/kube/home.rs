//! Where the pods of `samara kube` are, and who may change what is there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{FlockOperation, flock};
use samara_core::manifest::{self, MOST_BYTES, Object};
use serde_json::json;

use super::plan::Plan;
use crate::place::Place;

/// The directories.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
    run: PathBuf,
    locks: PathBuf,
}

/// A lock, until it is dropped.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "open, it is the lock")] File);

/// What one `play` put down.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) file: PathBuf,
    pub(super) pods: Vec<Pod>,
}

/// Namespace and name.
pub(super) type Name = (String, String);

impl Home {
    /// Touches nothing.
    pub(crate) fn of(place: &Place) -> Self {
        let run = place.run_dir();
        Self { root: place.root_dir().join("kube"), run: run.join("kube"), locks: run.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.run.join("manifests")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// What the node itself says.
    pub(super) fn node_log(&self) -> PathBuf {
        self.run.join("node.log")
    }

    /// Makes what a node needs before it starts. For root alone: Secrets are in the manifests.
    pub(super) fn make(&self) -> Result<()> {
        for dir in [self.manifests(), self.root.clone()] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.with_context(|| format!("make {}", dir.display()))?;
        }
        Ok(())
    }

    /// Waits until nobody else changes manifests.
    pub(super) fn gate(&self) -> Result<Held> {
        let file = self.lock_file("kube.gate")?;
        flock(&file, FlockOperation::LockExclusive).context("lock the manifests")?;
        Ok(Held(file))
    }

    /// [`Home::gate`] without waiting.
    pub(super) fn try_gate(&self) -> Result<Option<Held>> {
        self.try_lock("kube.gate", FlockOperation::NonBlockingLockExclusive)
    }

    /// The node's own lock: who has it is the node. Somebody who looks whether there is one may be in the way for a moment.
    pub(super) fn try_be_node(&self) -> Result<Option<Held>> {
        self.try_lock("kube.node", FlockOperation::NonBlockingLockExclusive)
    }

    /// Whether there is one.
    pub(super) fn has_node(&self) -> Result<bool> {
        Ok(self.try_lock("kube.node", FlockOperation::NonBlockingLockShared)?.is_none())
    }

    /// An error if it has ended, though there are pods to look after.
    pub(super) fn must_have_node(&self) -> Result<()> {
        match self.has_node()? {
            true => Ok(()),
            false => bail!("the node of `samara kube` has ended: see {}", self.node_log().display()),
        }
    }

    fn try_lock(&self, name: &str, how: FlockOperation) -> Result<Option<Held>> {
        let file = self.lock_file(name)?;
        match flock(&file, how) {
            Ok(()) => Ok(Some(Held(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("lock {name}")),
        }
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.locks);
        made.with_context(|| format!("make {}", self.locks.display()))?;
        let path = self.locks.join(name);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        opened.with_context(|| format!("open {}", path.display()))
    }

    /// All plays.
    pub(super) fn plays(&self) -> Result<Vec<Play>> {
        let mut plays = Vec::new();
        for file in files(&self.manifests(), "json")? {
            let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let objects = manifest::parse(&text).with_context(|| format!("{} is damaged", file.display()))?;
            let pods = objects.into_iter().filter_map(|object| match object {
                Object::Pod(pod) => Some(*pod),
                Object::Deployment(_)
                | Object::DaemonSet(_)
                | Object::Job(_)
                | Object::ConfigMap(_)
                | Object::Secret(_)
                | Object::Other { .. } => None,
            });
            plays.push(Play { file, pods: pods.collect() });
        }
        Ok(plays)
    }

    /// Puts a play down, by rename.
    pub(super) fn write(&self, plan: &Plan) -> Result<Play> {
        let first = plan.pods.first().context("there is no pod in it")?;
        let (namespace, name) = name_of(first);
        let file = self.manifests().join(format!("{namespace}_{name}.json"));
        let temporary = self.manifests().join(format!(".{namespace}_{name}"));
        let items: Vec<_> = plan.objects()?;
        let bytes = serde_json::to_vec(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))?;
        let written = || -> io::Result<()> {
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            out.write_all(&bytes)?;
            fs::rename(&temporary, &file)
        };
        written().with_context(|| format!("write {}", file.display()))?;
        Ok(Play { file, pods: plan.pods.clone() })
    }

    /// What the node says of each pod.
    pub(super) fn statuses(&self) -> Result<BTreeMap<Name, Pod>> {
        let mut all = BTreeMap::new();
        for file in files(&self.run.join("status"), "json")? {
            match fs::read(&file) {
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                bytes => {
                    let bytes = bytes.with_context(|| format!("read {}", file.display()))?;
                    let pod: Pod =
                        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", file.display()))?;
                    all.insert(name_of(&pod), pod);
                }
            }
        }
        Ok(all)
    }

    /// Whether anything of a pod is left, told of or not.
    pub(super) fn has_bundles(&self) -> bool {
        fs::read_dir(self.run.join("bundles")).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// What a node said that is no more is nobody's word.
    pub(super) fn forget_statuses(&self) -> Result<()> {
        match fs::remove_dir_all(self.run.join("status")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove old statuses"),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The last warnings about a pod, newest last.
    pub(super) fn warnings(&self, uid: &str) -> Vec<String> {
        let text = fs::read_to_string(self.run.join("status").join(format!("{uid}.warnings")));
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// Namespace and name of a pod.
pub(super) fn name_of(pod: &Pod) -> Name {
    let meta = &pod.metadata;
    let namespace = meta.namespace.clone().filter(|namespace| !namespace.is_empty());
    (namespace.unwrap_or_else(|| "default".to_owned()), meta.name.clone().unwrap_or_default())
}

/// A manifest from a file, or from standard input by the name `-`.
pub(super) fn read(file: &str) -> Result<Vec<Object>> {
    let mut text = String::new();
    let what = if file == "-" { "standard input" } else { file };
    let read = match file {
        "-" => io::stdin().lock().take(MOST_BYTES + 1).read_to_string(&mut text),
        path => File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text)),
    };
    read.with_context(|| format!("read {what}"))?;
    if text.len() as u64 > MOST_BYTES {
        bail!("{what} is larger than {MOST_BYTES} bytes");
    }
    manifest::parse(&text).with_context(|| what.to_owned())
}

/// Visible files of a directory that end so; none if there is no directory.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("read {}", dir.display()))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.with_context(|| format!("read {}", dir.display()))?;
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|found| found == extension) && !hidden(path));
    paths.sort();
    Ok(paths)
}
