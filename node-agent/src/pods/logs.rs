//! Log files: where a container's is, the link by which collectors find it, and what is removed when.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use super::PodRef;
use crate::volumes::Layout;

/// In a pod's directory: the root directory of the agent whose pod it is. A kubelet and other agents may have theirs beside
/// it.
const OWNER: &str = ".samara";

/// A log directory cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make log directory {}: {source}", path.display())]
pub(super) struct LogError {
    path: PathBuf,
    source: io::Error,
}

/// The log file of an attempt; its directory is made.
pub(super) fn prepare(layout: &Layout, pod: &PodRef, container: &str, attempt: u32) -> Result<PathBuf, LogError> {
    let of_pod = layout.pod_logs(&pod.namespace, &pod.name, &pod.uid);
    let dir = of_pod.join(container);
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir);
    made.map_err(|source| LogError { path: dir.clone(), source })?;
    let owner = of_pod.join(OWNER);
    if !owner.exists() {
        fs::write(&owner, layout.root().as_os_str().as_bytes()).map_err(|source| LogError { path: owner, source })?;
    }
    Ok(dir.join(format!("{attempt}.log")))
}

/// Links it for collectors. That this fails is no reason not to run.
pub(super) fn link(layout: &Layout, pod: &PodRef, container: &str, id: &str, log: &Path) {
    let link = layout.log_link(&pod.namespace, &pod.name, container, id);
    let made = fs::create_dir_all(layout.log_links()).and_then(|()| match symlink(log, &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    });
    if let Err(error) = made {
        tracing::warn!(link = %link.display(), %error, "log is not linked");
    }
}

/// The log of an attempt that is too old, with its rotated files and its link.
pub(super) fn remove_attempt(layout: &Layout, pod: &PodRef, container: &str, attempt: u32, id: &str) {
    let dir = layout.pod_logs(&pod.namespace, &pod.name, &pod.uid).join(container);
    let log = format!("{attempt}.log");
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.strip_prefix(&log).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            drop(fs::remove_file(entry.path()));
        }
    }
    drop(fs::remove_file(layout.log_link(&pod.namespace, &pod.name, container, id)));
}

/// All logs of a pod that is gone, and the links to them.
pub(super) fn remove(layout: &Layout, pod: &PodRef) {
    let dir = layout.pod_logs(&pod.namespace, &pod.name, &pod.uid);
    for container in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let prefix = layout.log_link(&pod.namespace, &pod.name, &container.file_name().to_string_lossy(), "");
        let prefix = prefix.file_name().map(|name| name.to_string_lossy().trim_end_matches(".log").to_owned());
        remove_links(layout.log_links(), &prefix.unwrap_or_default(), &dir);
    }
    drop(fs::remove_dir_all(&dir));
}

/// The logs of this agent's pods that nobody knows any more, and the links to them (kubelet: `evictPodLogsDirectories`).
pub(super) fn remove_all_but(layout: &Layout, is_known: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(layout.logs()).into_iter().flatten().flatten() {
        let (name, dir) = (entry.file_name(), entry.path());
        // <namespace>_<name>_<uid>
        let Some(uid) = name.to_str().and_then(|name| name.splitn(3, '_').nth(2)) else { continue };
        let is_ours = || fs::read(dir.join(OWNER)).is_ok_and(|owner| owner == layout.root().as_os_str().as_bytes());
        if !is_known(uid) && is_ours() {
            remove_links(layout.log_links(), "", &dir);
            drop(fs::remove_dir_all(&dir));
        }
    }
}

/// Links whose names begin so and which lead into that directory: a pod of the same name may have come after.
pub(super) fn remove_links(links: &Path, prefix: &str, dir: &Path) {
    for link in fs::read_dir(links).into_iter().flatten().flatten() {
        let ours = link.file_name().to_string_lossy().starts_with(prefix);
        if ours && fs::read_link(link.path()).is_ok_and(|target| target.starts_with(dir)) {
            drop(fs::remove_file(link.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> (tempfile::TempDir, Layout, PodRef) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let layout = Layout::new(&at("root"), &at("run"), &at("logs"), &at("links"));
        (dir, layout, PodRef { uid: "u-1".into(), namespace: "shop".into(), name: "web".into() })
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_log_is_where_the_kubelet_has_it_and_is_linked() {
        let (dir, layout, pod) = scene();
        let log = prepare(&layout, &pod, "app", 3).unwrap();
        assert_eq!(log, dir.path().join("logs/shop_web_u-1/app/3.log"));
        link(&layout, &pod, "app", "abc", &log);
        link(&layout, &pod, "app", "abc", &log);
        assert_eq!(fs::read_link(dir.path().join("links/web_shop_app-abc.log")).unwrap(), log);
    }

    #[test]
    fn an_old_attempt_goes_with_its_rotated_files_and_no_other() {
        let (dir, layout, pod) = scene();
        for attempt in [1, 11] {
            let log = prepare(&layout, &pod, "app", attempt).unwrap();
            fs::write(&log, "x").unwrap();
            fs::write(log.with_extension("log.20261121-010203"), "x").unwrap();
            link(&layout, &pod, "app", &attempt.to_string(), &log);
        }
        remove_attempt(&layout, &pod, "app", 1, "1");
        assert_eq!(files(&dir.path().join("logs/shop_web_u-1/app")), ["11.log", "11.log.20261121-010203"]);
        assert_eq!(files(&dir.path().join("links")), ["web_shop_app-11.log"]);
    }

    #[test]
    fn a_gone_pod_takes_its_links_and_leaves_those_of_its_successor() {
        let (dir, layout, pod) = scene();
        let next = PodRef { uid: "u-2".into(), ..pod.clone() };
        for (pod, id) in [(&pod, "old"), (&next, "new")] {
            let log = prepare(&layout, pod, "app", 0).unwrap();
            link(&layout, pod, "app", id, &log);
        }
        remove(&layout, &pod);
        remove(&layout, &pod);
        assert_eq!(files(&dir.path().join("logs")), ["shop_web_u-2"]);
        assert_eq!(files(&dir.path().join("links")), ["web_shop_app-new.log"]);
    }

    #[test]
    fn logs_of_pods_that_nobody_knows_go_and_those_of_others_stay() {
        let (dir, layout, pod) = scene();
        let at = |name: &str| dir.path().join(name);
        let other_agent = Layout::new(&at("other-root"), &at("other-run"), &at("logs"), &at("links"));
        for (layout, uid) in [(&layout, "known"), (&layout, "gone"), (&other_agent, "another-agents")] {
            let pod = PodRef { uid: uid.into(), ..pod.clone() };
            let log = prepare(layout, &pod, "app", 0).unwrap();
            fs::write(&log, "x").unwrap();
            link(layout, &pod, "app", uid, &log);
        }
        for other in ["shop_web_kubelets/app", "journal", "shop_web"] {
            fs::create_dir_all(at("logs").join(other)).unwrap();
        }
        fs::write(at("logs/a_b_file"), "").unwrap();
        remove_all_but(&layout, |uid| uid == "known");
        let logs =
            ["a_b_file", "journal", "shop_web", "shop_web_another-agents", "shop_web_known", "shop_web_kubelets"];
        assert_eq!(files(&at("logs")), logs);
        assert_eq!(files(&at("links")), ["web_shop_app-another-agents.log", "web_shop_app-known.log"]);
    }
}
