//! The verbs as which containerd calls a shim.

use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use rustix::process::{Signal, pidfd_send_signal};
use sha2::{Digest as _, Sha256};

use super::args::{Containerd, Publish};
use super::events::timestamp;
use super::hooks::{State, run_all};
use super::{config, orphan, outline, start};
use samara_shim_client::bundle::{Bundle, ExitRecord, TaskRecord};
use samara_shim_client::cgroup::Cgroups;
use samara_shim_client::front::{SHIM_NAME, socket};
use samara_shim_client::process;

type Failure = Box<dyn Error + Send + Sync>;

/// Name under which containerd's configuration knows the runtime.
const RUNTIME: &str = "io.containerd.samara.v1";
/// Environment: directory of fronts.
const RUN_DIR: &str = "SAMARA_RUN_DIR";
const DEFAULT_RUN_DIR: &str = "/run/samara";
/// Environment: containerd's ttrpc socket, for events.
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
/// Annotations that say which containers belong together, and so share a front.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// A process that was sent SIGKILL ends within this, or never.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// `-v`.
pub(super) fn version() -> Result<(), Failure> {
    writeln!(io::stdout(), "{SHIM_NAME}:\n  Version: {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}

/// `-info`.
pub(super) fn info() -> Result<(), Failure> {
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), ..RuntimeVersion::default() };
    let info = RuntimeInfo { name: RUNTIME.into(), version: MessageField::some(version), ..RuntimeInfo::default() };
    io::stdout().write_all(&info.write_to_bytes()?)?;
    Ok(())
}

/// `start`, in the bundle's directory: one front per group of containers.
pub(super) fn start(flags: &Containerd) -> Result<(), Failure> {
    let asked = Asked::read(flags)?;
    let bundle = bundle(flags)?;
    let dir = front_dir(&flags.namespace, &group(&bundle, &flags.id)?);
    let address = std::env::var(TTRPC_ADDRESS).unwrap_or_default();
    let publish = Publish { address, namespace: flags.namespace.clone() };
    let socket = start::spawn(&dir, Some(&publish))?;
    io::stdout().write_all(&asked.answer(&socket)?)?;
    Ok(())
}

/// `delete`: the front is dead, or never was. Ends what is left of one task and tells how it ended.
pub(super) fn delete(flags: &Containerd) -> Result<(), Failure> {
    let bundle = bundle(flags)?;
    let was_made = bundle.task_record()?.is_some();
    let record = end(&bundle)?;
    if was_made {
        run_last_hooks(&bundle, &flags.id);
    }
    let dir = front_dir(&flags.namespace, &group(&bundle, &flags.id)?);
    remove_link(&dir, &flags.id)?;
    let response = DeleteResponse {
        pid: record.pid.cast_unsigned(),
        exit_status: record.exit_code,
        exited_at: MessageField::some(timestamp(record.exited_at_nanos)),
        ..DeleteResponse::default()
    };
    io::stdout().write_all(&response.write_to_bytes()?)?;
    Ok(())
}

/// In which form containerd wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// 2.3 and newer: parameters came as protobuf, the answer goes so.
    Protobuf,
    /// 2.0 to 2.2.
    Json,
    /// 1.x: the address alone.
    Plain,
}

impl Asked {
    fn read(flags: &Containerd) -> Result<Self, Failure> {
        const LONGEST: u64 = 4 << 20;
        let mut said = Vec::new();
        if !io::stdin().is_terminal() {
            io::stdin().lock().take(LONGEST).read_to_end(&mut said)?;
        }
        Ok(Self::of(&said, flags, std::env::var_os("MAX_SHIM_VERSION").is_some()))
    }

    /// Older runtime options also parse as these parameters: they are ours only if they name this very task.
    fn of(said: &[u8], flags: &Containerd, has_version: bool) -> Self {
        let parameters = BootstrapParams::parse_from_bytes(said).unwrap_or_default();
        if parameters.instance_id == flags.id && parameters.namespace == flags.namespace {
            return Self::Protobuf;
        }
        if has_version { Self::Json } else { Self::Plain }
    }

    fn answer(self, socket: &str) -> Result<Vec<u8>, Failure> {
        let address = format!("unix://{socket}");
        Ok(match self {
            Self::Protobuf => {
                let mut result = BootstrapResult::new();
                (result.version, result.address, result.protocol) = (3, address, "ttrpc".into());
                result.write_to_bytes()?
            }
            // Both versions of the API are served; 2 is what every containerd that reads this form accepts.
            Self::Json => serde_json::json!({"version": 2, "address": address, "protocol": "ttrpc"}).to_string().into(),
            Self::Plain => address.into(),
        })
    }
}

fn bundle(flags: &Containerd) -> Result<Bundle, Failure> {
    let given = Some(&flags.bundle).filter(|bundle| !bundle.as_os_str().is_empty());
    Ok(Bundle::new(given.cloned().map_or_else(std::env::current_dir, Ok)?))
}

/// The container's group, or its own id.
fn group(bundle: &Bundle, id: &str) -> Result<String, Failure> {
    if !bundle.config().exists() {
        return Ok(id.into());
    }
    let spec = config::read(bundle)?;
    let annotations = spec.annotations().as_ref();
    let group = annotations.and_then(|all| GROUPS.iter().find_map(|key| all.get(*key)));
    Ok(group.cloned().unwrap_or_else(|| id.into()))
}

/// Hashed, because a socket's path must be short.
fn front_dir(namespace: &str, group: &str) -> PathBuf {
    let run_dir = std::env::var_os(RUN_DIR).map_or_else(|| DEFAULT_RUN_DIR.into(), PathBuf::from);
    let name = hex::encode(&Sha256::digest(format!("{namespace}/{group}"))[..16]);
    run_dir.join("containerd").join(name)
}

/// Kills the task's process, waits for it, removes cgroup and records.
fn end(bundle: &Bundle) -> Result<ExitRecord, Failure> {
    let task = bundle.task_record()?.unwrap_or_default();
    let start = bundle.start_record()?;
    if let Some(start) = &start
        && let Some(pidfd) = process::open(start.pid, start.start_time)?
    {
        // Ended in between: all the better.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&ENDS_WITHIN.try_into()?))?;
    }
    remove_cgroup(&task)?;
    let record = bundle.exit_record()?.unwrap_or_else(|| ExitRecord {
        pid: start.map_or(0, |start| start.pid),
        exit_code: 137,
        oom_killed: false,
        message: None,
        exited_at_nanos: orphan::now(),
        seen: false,
    });
    bundle.remove_records()?;
    Ok(record)
}

/// The deletion has happened: nothing is lost but what the hooks would have done.
fn run_last_hooks(bundle: &Bundle, id: &str) {
    let read = config::read(bundle).and_then(|spec| Ok((outline::hooks(&spec)?, spec)));
    match read {
        Ok((hooks, spec)) => run_all(&hooks.deleted, &State::new(&spec, bundle, id, "stopped", None)),
        Err(error) => eprintln!("samara shim: hooks of {id}: {}", super::error::chain(&error)),
    }
}

/// Of a task that has a record: the front saw that nobody else was in its cgroup before it wrote that.
fn remove_cgroup(task: &TaskRecord) -> Result<(), Failure> {
    let Some(path) = &task.cgroups_path else { return Ok(()) };
    let cgroup = Cgroups::detect()?.group(path)?;
    cgroup.kill()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(cgroup.remove())?;
    Ok(())
}

/// Forgets the task where its front had it, and the front's directory with the last one: its zygote ends then.
fn remove_link(dir: &Path, id: &str) -> Result<(), Failure> {
    let links = dir.join("tasks");
    match fs::remove_file(links.join(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let alive = std::os::unix::net::UnixStream::connect(socket(dir)).is_ok();
    let empty = fs::read_dir(&links).is_ok_and(|mut entries| entries.next().is_none());
    if empty && !alive {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Containerd {
        Containerd { namespace: "k8s.io".into(), id: "abc".into(), ..Containerd::default() }
    }

    #[test]
    fn each_containerd_is_answered_in_its_own_form() {
        let mut parameters = BootstrapParams::new();
        (parameters.instance_id, parameters.namespace) = ("abc".into(), "k8s.io".into());
        let newest = parameters.write_to_bytes().expect("bytes");
        assert_eq!(Asked::of(&newest, &flags(), true), Asked::Protobuf);
        parameters.instance_id = "other".into();
        let other = parameters.write_to_bytes().expect("bytes");
        assert_eq!(Asked::of(&other, &flags(), true), Asked::Json);
        assert_eq!(Asked::of(b"\xff\xff", &flags(), true), Asked::Json);
        assert_eq!(Asked::of(b"", &flags(), false), Asked::Plain);
    }

    #[test]
    fn answers_read_back() {
        let socket = "/run/samara/containerd/x/front.sock";
        assert_eq!(Asked::Plain.answer(socket).expect("plain"), b"unix:///run/samara/containerd/x/front.sock");
        let json: serde_json::Value = serde_json::from_slice(&Asked::Json.answer(socket).expect("json")).expect("json");
        assert_eq!(json["address"], format!("unix://{socket}"));
        let result =
            BootstrapResult::parse_from_bytes(&Asked::Protobuf.answer(socket).expect("bytes")).expect("result");
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    }

    #[test]
    fn a_fronts_socket_path_fits_into_an_address() {
        let dir = front_dir(&"n".repeat(76), &"g".repeat(128));
        assert!(socket(&dir).as_os_str().len() < 108);
        assert_ne!(front_dir("a", "b"), front_dir("b", "a"));
    }
}
