//! Bundles as the agent writes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use samara_shim_client::bundle::{Bundle, ExitRecord};
use samara_shim_client::output::{CriLog, OutputUri};
use samara_shim_client::{CreateTask, RootMount, Standard};
use serde_json::{Value, json};

/// A container to be made.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) config: Value,
    pub(crate) log: CriLog,
    pub(crate) rootfs: Vec<RootMount>,
    pub(crate) cgroup: String,
}

impl Container {
    /// A container of a single module, with a cgroup and a CRI log.
    pub(crate) fn new(home: &Path, wasm: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("c{}-{number}", std::process::id());
        let dir = home.join("bundles").join(&id);
        fs::create_dir_all(&dir).expect("bundle");
        let module = dir.join("module.wasm");
        fs::write(&module, wasm).expect("module");
        let cgroup = format!("/samara-test-{}/{id}", std::process::id());
        let config = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "hostname": "guest",
            "process": {
                "args": ["/app.wasm"], "env": ["PATH=/bin"], "cwd": "/",
                "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
            },
            "annotations": {
                "samara.dev/module": module,
                "samara.dev/container-name": "app",
                "samara.dev/termination-grace-period-seconds": "5",
            },
            "linux": {
                "cgroupsPath": cgroup,
                "resources": {},
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
            },
        });
        let log = CriLog::new(home.join("logs").join(&id).join("0.log"));
        Self { id, dir, config, log, rootfs: Vec::new(), cgroup }
    }

    /// A container with a root of one overlay: `files` below, an empty directory above.
    pub(crate) fn with_root(home: &Path, files: &[(&str, &[u8])]) -> Self {
        let mut container = Self::new(home, b"");
        let base = container.dir.clone();
        let dir = |name: &str| {
            let path = base.join(name);
            fs::create_dir_all(&path).expect("layer");
            path
        };
        let (lower, upper, work) = (dir("lower"), dir("upper"), dir("work"));
        for (name, bytes) in files {
            let path = lower.join(name.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            match bytes.strip_prefix(b"-> ") {
                Some(target) => symlink(String::from_utf8_lossy(target).as_ref(), path).expect("link"),
                None => fs::write(path, bytes).expect("file"),
            }
        }
        container.rootfs = vec![RootMount {
            typ: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                format!("lowerdir={}", lower.display()),
                format!("upperdir={}", upper.display()),
                format!("workdir={}", work.display()),
            ],
        }];
        container.annotation("samara.dev/module", None);
        container
    }

    pub(crate) fn annotation(&mut self, key: &str, value: Option<&str>) {
        let annotations = self.config["annotations"].as_object_mut().expect("annotations");
        match value {
            Some(value) => drop(annotations.insert(key.into(), value.into())),
            None => drop(annotations.remove(key)),
        }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    pub(crate) fn resources(mut self, resources: Value) -> Self {
        self.config["linux"]["resources"] = resources;
        self
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::new(&self.dir)
    }

    /// Writes `config.json` and gives the request.
    pub(crate) fn request(&self) -> CreateTask {
        fs::write(self.bundle().config(), self.config.to_string()).expect("config.json");
        let log = OutputUri::Cri(self.log.clone()).to_string();
        CreateTask {
            id: self.id.clone(),
            bundle: self.dir.clone(),
            rootfs: self.rootfs.clone(),
            standard: Standard { stdout: log.clone(), stderr: log, ..Standard::default() },
        }
    }

    /// Texts of the log's records, with their streams and tags, without times.
    pub(crate) fn records(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log.path).unwrap_or_default();
        let record = |line: &str| line.split_once(' ').map_or(line, |(_, rest)| rest).to_owned();
        text.lines().map(record).collect()
    }

    pub(crate) fn exit(&self) -> ExitRecord {
        self.bundle().exit_record().expect("readable").expect("ended")
    }
}
