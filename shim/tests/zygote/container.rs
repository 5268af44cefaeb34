//! A container to be forked: a plan and its files, as a front would make them.

use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    open_tree,
};
use samara_shim::container::control;
use samara_shim::plan::{
    ContainerPlan, Fd, Filesystem, Guest, Identity, Mount, Namespace, Namespaces, Output, Report, Stdio, VERSION,
};
use samara_shim::zygote::protocol::PidNamespace;
use samara_shim_client::bundle::Bundle;
use samara_shim_client::cgroup::Cgroup;

use crate::guests;
use crate::zygote::Running;

/// With all of its own: pid, mount, uts and ipc namespace, an empty root.
pub(crate) struct Container {
    pub(crate) plan: ContainerPlan,
    pub(crate) files: Vec<OwnedFd>,
    pid_namespace: PidNamespace<OwnedFd>,
    controlled: bool,
    oom_counter: Option<OwnedFd>,
}

/// What goes to the zygote.
pub(crate) struct Carried {
    pub(crate) plan: OwnedFd,
    pub(crate) files: Vec<OwnedFd>,
    pub(crate) pid_namespace: PidNamespace<OwnedFd>,
    pub(crate) oom_counter: Option<OwnedFd>,
}

impl Container {
    pub(crate) fn new(guest: &str) -> Self {
        Self::of(guests::compiled(guest))
    }

    pub(crate) fn of(code: OwnedFd) -> Self {
        let (root, report) = (tmpfs(), Report::file().unwrap());
        Self {
            plan: ContainerPlan {
                version: VERSION,
                id: "test".into(),
                title: "guest".into(),
                cgroups: Vec::new(),
                namespaces: Namespaces {
                    mount: Namespace::New,
                    uts: Namespace::New,
                    ipc: Namespace::New,
                    ..Namespaces::default()
                },
                hostname: Some("inside".into()),
                domainname: None,
                sysctls: std::collections::BTreeMap::new(),
                filesystem: Some(Filesystem { root: Fd(1), read_only: false, mounts: Vec::new() }),
                identity: Identity::default(),
                stdio: Stdio { stdin: None, stdout: Output::Null, stderr: Output::Null, terminal: false, master: None },
                code: Fd(0),
                control: None,
                report: Fd(2),
                guest: Guest { args: vec!["guest".into()], cwd: "/".into(), cpus: 1, ..Guest::default() },
            },
            files: vec![code, root, report],
            pid_namespace: PidNamespace::New,
            controlled: false,
            oom_counter: None,
        }
    }

    /// For a probing zygote: what is done instead of a guest.
    pub(crate) fn probe(name: &str) -> Self {
        Self::new(guests::HELLO).with(|plan| plan.guest.args = vec![name.into()])
    }

    pub(crate) fn oom_counter(mut self, path: &Path) -> Self {
        self.oom_counter = Some(std::fs::File::open(path).unwrap().into());
        self
    }

    /// In a cgroup, whose counter of killed processes the zygote reads.
    pub(crate) fn cgroup(mut self, cgroup: &Cgroup) -> Self {
        self.plan.cgroups = cgroup.open_tasks().unwrap().into_iter().map(|file| self.add(file)).collect();
        self.oom_counter = cgroup.open_oom_counter().unwrap();
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut ContainerPlan)) -> Self {
        change(&mut self.plan);
        self
    }

    pub(crate) fn identity(self, change: impl FnOnce(&mut Identity)) -> Self {
        self.with(|plan| change(&mut plan.identity))
    }

    pub(crate) fn add(&mut self, file: impl Into<OwnedFd>) -> Fd {
        self.files.push(file.into());
        Fd(u16::try_from(self.files.len() - 1).unwrap())
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.files[1]
    }

    pub(crate) fn pid_namespace(mut self, namespace: PidNamespace<OwnedFd>) -> Self {
        self.pid_namespace = namespace;
        self
    }

    /// With a control socket in its bundle: the guest waits for `start`.
    pub(crate) fn controlled(mut self) -> Self {
        self.controlled = true;
        self
    }

    /// Standard output as raw bytes into a pipe.
    pub(crate) fn stdout(mut self) -> (Self, PipeReader) {
        let (reader, writer): (PipeReader, PipeWriter) = pipe().unwrap();
        let fd = self.add(writer);
        self.plan.stdio.stdout = Output::Raw(fd);
        (self, reader)
    }

    pub(crate) fn mount(mut self, source: OwnedFd, destination: &str, directory: bool) -> Self {
        let source = self.add(source);
        let mount = Mount { source, destination: PathBuf::from(destination), directory };
        self.plan.filesystem.as_mut().unwrap().mounts.push(mount);
        self
    }

    /// A further process in the namespaces of a running one.
    pub(crate) fn exec(guest: &str, first: &Running) -> Self {
        let mut exec = Self::new(guest);
        let open = |name: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(first.proc(&format!("ns/{name}")), flags, Mode::empty()).unwrap()
        };
        let join = |exec: &mut Self, name: &str| Namespace::Join(exec.add(open(name)));
        exec.plan.namespaces = Namespaces {
            network: None,
            mount: join(&mut exec, "mnt"),
            uts: join(&mut exec, "uts"),
            ipc: join(&mut exec, "ipc"),
            cgroup: Namespace::Host,
        };
        exec.plan.filesystem = None;
        exec.plan.hostname = None;
        exec.pid_namespace(PidNamespace::Join(open("pid")))
    }

    pub(crate) fn carry(mut self, bundle: &Bundle) -> Carried {
        if self.controlled {
            let listener = control::listen(bundle.dir()).unwrap();
            self.plan.control = Some(self.add(listener));
        }
        Carried {
            plan: self.plan.seal().unwrap(),
            files: self.files,
            pid_namespace: self.pid_namespace,
            oom_counter: self.oom_counter,
        }
    }
}

/// A detached, empty file system.
pub(crate) fn tmpfs() -> OwnedFd {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(context.as_fd(), "mode", "0755").unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

/// A detached copy of a directory or file of the host.
pub(crate) fn bind(path: &Path) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, path, flags).unwrap()
}

/// A file in a detached file system.
pub(crate) fn write(root: impl AsFd, path: &str, text: &str) {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, path, flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(file, text.as_bytes()).unwrap();
}

pub(crate) fn mkdir(root: impl AsFd, path: &str) {
    mkdirat(root, path, Mode::from_raw_mode(0o755)).unwrap();
}
