//! Does what an outline decided: opens, makes and mounts (detached), and numbers what it opened into a plan.

mod attributes;
mod logger;
mod mount;
mod namespaces;
mod network;
mod rooted;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use crate::container::control;
use crate::front::outline::{Outline, ProcessOutline};
use crate::plan::{self, ContainerPlan, Fd};
use crate::zygote::protocol::{MAX_FDS, PidNamespace};
use samara_shim_client::bundle::Bundle;
use samara_shim_client::cgroup::Cgroup;

pub(crate) use logger::Logger;
pub(crate) use mount::Mounted;
pub(crate) use namespaces::Neighbour;
pub(crate) use rooted::Rooted;
pub(crate) use streams::{Kept, Streams, open_log};

/// What could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("mount {what}: {message}")]
    Mount { what: String, message: String, source: io::Error },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Cgroup(#[from] samara_shim_client::cgroup::CgroupError),
}

impl OpenError {
    fn io<E: Into<io::Error>>(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |error| Self::Io { operation, path, source: error.into() }
    }
}

/// A process ready to be forked.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) plan: ContainerPlan,
    /// What the plan's numbers point into.
    pub(crate) files: Vec<OwnedFd>,
    pub(crate) pid_namespace: PidNamespace<OwnedFd>,
    pub(crate) kept: Kept,
}

/// Names of the process.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// Container id, and exec id behind a slash.
    pub(crate) id: String,
    /// For `ps`.
    pub(crate) title: String,
    /// containerd's; for logging programs.
    pub(crate) namespace: String,
}

/// A container's first process. `mounted` was opened before, because the program is looked for in it.
pub(crate) fn container(
    outline: Outline,
    mounted: Mounted,
    cgroup: Option<&Cgroup>,
    bundle: &Bundle,
    code: OwnedFd,
    named: Named,
) -> Result<Prepared, OpenError> {
    let mut files = Files::default();
    let cgroups = files.cgroups(cgroup)?;
    let (namespaces, pid_namespace) = namespaces::own(&outline.namespaces, &mut files)?;
    namespaces::check_sysctls(&outline)?;
    let filesystem = mounted.into_plan(outline.read_only_root, &mut files);
    let rest = Rest {
        cgroups,
        namespaces,
        pid_namespace,
        hostname: outline.hostname,
        domainname: outline.domainname,
        sysctls: outline.sysctls,
        filesystem: Some(filesystem),
    };
    files.finish(outline.process, rest, bundle, code, named)
}

/// A further process beside `neighbour`, the container's first.
pub(crate) fn exec(
    outline: ProcessOutline,
    neighbour: &Neighbour,
    cgroup: Option<&Cgroup>,
    bundle: &Bundle,
    code: OwnedFd,
    named: Named,
) -> Result<Prepared, OpenError> {
    let mut files = Files::default();
    let cgroups = files.cgroups(cgroup)?;
    let (namespaces, pid_namespace) = neighbour.join(&mut files)?;
    let rest = Rest {
        cgroups,
        namespaces,
        pid_namespace,
        hostname: None,
        domainname: None,
        sysctls: BTreeMap::new(),
        filesystem: None,
    };
    files.finish(outline, rest, bundle, code, named)
}

/// In what the two kinds of processes differ.
struct Rest {
    cgroups: Vec<Fd>,
    namespaces: plan::Namespaces,
    pid_namespace: PidNamespace<OwnedFd>,
    hostname: Option<String>,
    domainname: Option<String>,
    sysctls: BTreeMap<String, String>,
    filesystem: Option<plan::Filesystem>,
}

/// Open files in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<OwnedFd>);

impl Files {
    fn add(&mut self, file: OwnedFd) -> Fd {
        self.0.push(file);
        // A plan with more is refused when it is sent, long before the number ends.
        Fd(u16::try_from(self.0.len() - 1).unwrap_or(u16::MAX))
    }

    fn cgroups(&mut self, cgroup: Option<&Cgroup>) -> Result<Vec<Fd>, OpenError> {
        let tasks = cgroup.map(Cgroup::open_tasks).transpose()?.unwrap_or_default();
        Ok(tasks.into_iter().map(|file| self.add(file)).collect())
    }

    fn finish(
        mut self,
        outline: ProcessOutline,
        rest: Rest,
        bundle: &Bundle,
        code: OwnedFd,
        named: Named,
    ) -> Result<Prepared, OpenError> {
        let (stdio, kept) = Streams::open(&outline.stdio, &named)?.into_plan(&mut self);
        let control = control::listen(bundle.dir()).map_err(OpenError::io("listen on", bundle.control_socket()))?;
        // Beside the plan's own: bundle, report, status, plan, pid namespace, counter, and the three added below.
        const OTHERS: usize = 9;
        if self.0.len() + OTHERS > MAX_FDS {
            let most = MAX_FDS - OTHERS;
            return Err(OpenError::Unsupported(format!(
                "{} mounts and streams, at most {most} are possible",
                self.0.len()
            )));
        }
        let report = plan::Report::file().map_err(OpenError::io("make", "report"))?;
        let plan = ContainerPlan {
            version: plan::VERSION,
            id: named.id,
            title: named.title,
            cgroups: rest.cgroups,
            namespaces: rest.namespaces,
            hostname: rest.hostname,
            domainname: rest.domainname,
            sysctls: rest.sysctls,
            filesystem: rest.filesystem,
            identity: outline.identity,
            stdio,
            code: self.add(code),
            control: Some(self.add(control)),
            report: self.add(report),
            guest: outline.guest,
        };
        Ok(Prepared { plan, files: self.0, pid_namespace: rest.pid_namespace, kept })
    }
}

impl Prepared {
    /// The report file, which the zygote gets once more beside the plan's files.
    pub(crate) fn report(&self) -> io::Result<OwnedFd> {
        let index = usize::from(self.plan.report.0);
        let file = self.files.get(index).ok_or_else(|| io::Error::other("the plan names no report"))?;
        file.as_fd().try_clone_to_owned()
    }
}
