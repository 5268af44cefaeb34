//! Which front holds which pod: up to 32 pods each, and one more kept warm, so that a pod never waits for a front to start.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samara_shim_client::front::{CODE_DIR, socket};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, info_span, warn};

use super::front::Front;

/// How fronts are started.
#[derive(Debug, Clone)]
pub struct ShimsConfig {
    /// The binary that is a shim when called by a shim's name.
    pub exe: PathBuf,
    /// Where fronts have their directories.
    pub dir: PathBuf,
    /// The code cache from which they load.
    pub code_dir: PathBuf,
    /// Pods in one front at most: what one broken front can disturb.
    pub pods_per_front: usize,
}

/// All fronts of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shims(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ShimsConfig,
    /// No lock is held over an await.
    assignment: Mutex<Assignment>,
    tasks: TaskTracker,
}

/// Who is where: pure but for the making of [`Front`] handles.
#[derive(Debug, Default)]
struct Assignment {
    fronts: BTreeMap<u32, Arc<Front>>,
    pods: HashMap<Arc<str>, u32>,
    counts: BTreeMap<u32, usize>,
}

impl Shims {
    /// Starts nothing. Fronts of an earlier agent are known by their directories.
    pub fn new(config: ShimsConfig) -> Self {
        let shims = Self(Arc::new(Inner { config, assignment: Mutex::default(), tasks: TaskTracker::new() }));
        for entry in fs::read_dir(&shims.0.config.dir).into_iter().flatten().flatten() {
            if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                let front = shims.front(number);
                shims.assignment().add(front);
            }
        }
        shims
    }

    /// The front for a pod: the one that has it, else one with room. Starts another in the background when that leaves
    /// none empty.
    pub fn assign(&self, pod: &Arc<str>) -> Arc<Front> {
        let (front, warm) = {
            let mut assignment = self.assignment();
            let number = assignment.choose(pod, self.0.config.pods_per_front);
            let front = assignment.fronts.get(&number).cloned();
            let front = front.unwrap_or_else(|| {
                let front = self.front(number);
                assignment.add(front.clone());
                front
            });
            assignment.put(pod, number);
            let warm = assignment.empty().is_none().then(|| {
                let front = self.front(assignment.next_number());
                assignment.add(front.clone());
                front
            });
            (front, warm)
        };
        if let Some(warm) = warm {
            self.warm_up(warm);
        }
        front
    }

    /// Starts an empty front if there is none, and looks at all that an earlier agent left: which of them hold pods is not
    /// known yet, and one of another binary is to be upgraded whether it does or not.
    pub fn keep_one_warm(&self) {
        {
            let mut assignment = self.assignment();
            let number = assignment.empty().unwrap_or_else(|| assignment.next_number());
            let front = assignment.fronts.get(&number).cloned().unwrap_or_else(|| self.front(number));
            assignment.add(front);
        }
        self.fronts().into_iter().for_each(|front| self.warm_up(front));
    }

    /// The front of that number, for a pod that an earlier agent put there.
    pub fn adopt(&self, pod: &Arc<str>, number: u32) -> Arc<Front> {
        let mut assignment = self.assignment();
        let front = assignment.fronts.get(&number).cloned().unwrap_or_else(|| self.front(number));
        assignment.add(front.clone());
        assignment.put(pod, number);
        front
    }

    /// The pod is gone. A front that has become empty ends, if another one is empty too.
    pub fn release(&self, pod: &str) {
        let retired = {
            let mut assignment = self.assignment();
            assignment.take(pod).and_then(|number| assignment.retire(number))
        };
        if let Some(front) = retired {
            self.0.tasks.spawn(retire(front));
        }
    }

    /// Ends fronts that hold none of `pods`, but one: those that an earlier agent left.
    pub fn retire_all_but(&self, pods: &HashSet<Arc<str>>) {
        let retired: Vec<_> = {
            let mut assignment = self.assignment();
            let gone: Vec<Arc<str>> = assignment.pods.keys().filter(|pod| !pods.contains(*pod)).cloned().collect();
            for pod in &gone {
                assignment.take(pod);
            }
            let numbers: Vec<u32> = assignment.fronts.keys().copied().collect();
            numbers.into_iter().filter_map(|number| assignment.retire(number)).collect()
        };
        retired.into_iter().for_each(|front| drop(self.0.tasks.spawn(retire(front))));
    }

    /// Ends every front that holds no pod, the warm one too. Nothing is to be assigned after this.
    pub async fn retire_idle(&self) {
        let idle: Vec<_> = {
            let mut assignment = self.assignment();
            let numbers: Vec<u32> = assignment.fronts.keys().copied().collect();
            numbers.into_iter().filter_map(|number| assignment.retire_if_empty(number)).collect()
        };
        idle.into_iter().for_each(|front| drop(self.0.tasks.spawn(retire(front))));
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Fronts that are known now.
    pub fn fronts(&self) -> Vec<Arc<Front>> {
        self.assignment().fronts.values().cloned().collect()
    }

    fn warm_up(&self, front: Arc<Front>) {
        let span = info_span!("front", number = front.number());
        self.0.tasks.spawn(
            async move {
                if let Err(error) = front.connect().await {
                    warn!(error = &error as &dyn std::error::Error, "front cannot be started");
                }
            }
            .instrument(span),
        );
    }

    fn front(&self, number: u32) -> Arc<Front> {
        let config = &self.0.config;
        let env = [(CODE_DIR.to_owned(), config.code_dir.to_string_lossy().into_owned())];
        let dir = config.dir.join(number.to_string());
        Arc::new(Front::new(number, dir, config.exe.clone(), env.into()))
    }

    fn assignment(&self) -> MutexGuard<'_, Assignment> {
        self.0.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn retire(front: Arc<Front>) {
    let shut = match front.connect().await {
        Ok(connection) => connection.shim.shutdown().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = shut {
        debug!(front = front.number(), error, "front did not answer when it was told to end");
    }
    // One that still has a task does not end, and keeps its directory: the next agent finds it there.
    for pause in [20, 100, 500, 2000] {
        if tokio::net::UnixStream::connect(socket(front.dir())).await.is_err() {
            drop(fs::remove_dir_all(front.dir()));
            return;
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

impl Assignment {
    fn add(&mut self, front: Arc<Front>) {
        self.counts.entry(front.number()).or_insert(0);
        self.fronts.entry(front.number()).or_insert(front);
    }

    /// The fullest front that has room: emptier ones can then be ended.
    fn choose(&self, pod: &str, most: usize) -> u32 {
        if let Some(number) = self.pods.get(pod) {
            return *number;
        }
        let with_room = self.counts.iter().filter(|(_, count)| **count < most);
        with_room
            .max_by_key(|(number, count)| (**count, std::cmp::Reverse(**number)))
            .map_or_else(|| self.next_number(), |(number, _)| *number)
    }

    fn put(&mut self, pod: &Arc<str>, number: u32) {
        if self.pods.insert(pod.clone(), number).is_none() {
            *self.counts.entry(number).or_insert(0) += 1;
        }
    }

    fn take(&mut self, pod: &str) -> Option<u32> {
        let number = self.pods.remove(pod)?;
        if let Some(count) = self.counts.get_mut(&number) {
            *count -= 1;
        }
        Some(number)
    }

    fn empty(&self) -> Option<u32> {
        self.counts.iter().find(|(_, count)| **count == 0).map(|(number, _)| *number)
    }

    fn retire(&mut self, number: u32) -> Option<Arc<Front>> {
        let empty = self.counts.values().filter(|count| **count == 0).count();
        if empty < 2 { None } else { self.retire_if_empty(number) }
    }

    fn retire_if_empty(&mut self, number: u32) -> Option<Arc<Front>> {
        if self.counts.get(&number) != Some(&0) {
            return None;
        }
        self.counts.remove(&number);
        self.fronts.remove(&number)
    }

    fn next_number(&self) -> u32 {
        (0..).find(|number| !self.counts.contains_key(number)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills and empties an assignment as the pool does, with two pods in a front.
    struct Scene(Assignment);

    impl Scene {
        fn new() -> Self {
            Self(Assignment::default())
        }

        fn add(&mut self, number: u32) {
            self.0.add(Arc::new(Front::new(number, PathBuf::new(), PathBuf::new(), BTreeMap::new())));
        }

        fn put(&mut self, pod: &str) -> u32 {
            let number = self.0.choose(pod, 2);
            self.add(number);
            self.0.put(&pod.into(), number);
            number
        }
    }

    #[test]
    fn pods_fill_one_front_before_they_open_another() {
        let mut scene = Scene::new();
        let numbers: Vec<u32> = ["a", "b", "c", "a", "d", "e"].iter().map(|pod| scene.put(pod)).collect();
        assert_eq!(numbers, [0, 0, 1, 0, 1, 2]);
        scene.0.take("b");
        scene.0.take("c");
        scene.0.take("d");
        assert_eq!(scene.put("f"), 0, "the fullest with room");
    }

    #[test]
    fn an_empty_front_is_kept_and_a_second_one_ends() {
        let mut scene = Scene::new();
        for pod in ["a", "b", "c"] {
            scene.put(pod);
        }
        assert_eq!(scene.0.empty(), None);
        assert_eq!(scene.0.take("c"), Some(1));
        assert!(scene.0.retire(1).is_none(), "the only empty one stays warm");
        scene.0.take("a");
        scene.0.take("b");
        assert_eq!(scene.0.retire(0).map(|front| front.number()), Some(0));
        assert!(scene.0.retire(1).is_none());
        assert_eq!(scene.0.next_number(), 0);
    }

    #[test]
    fn a_pod_that_is_taken_twice_counts_once() {
        let mut scene = Scene::new();
        scene.put("a");
        scene.put("a");
        assert_eq!(scene.0.counts[&0], 1);
        assert_eq!(scene.0.take("a"), Some(0));
        assert_eq!(scene.0.take("a"), None);
        assert_eq!(scene.0.counts[&0], 0);
    }
}
