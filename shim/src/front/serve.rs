//! The front's life: alone in its directory, zygote first, then the runtime and the service.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Notify, mpsc};
use ttrpc::asynchronous::transport::Listener;

use super::args::Publish;
use super::code::{Codes, DEFAULT_CODE_DIR};
use super::events::Events;
use super::forks::Forks;
use super::living::{Before, Living};
use super::outline::{Host, Master};
use super::sandbox::Sandboxes;
use super::service::Service;
use super::start::FAILED;
use super::task::Tools;
use super::tasks::Tasks;
use super::upgrade::{self, Inherited};
use super::{adopt, listening, logs, orphan};
use samara_runtime::CodeCache;
use samara_shim_client::cgroup::{CgroupError, Cgroups};
use samara_shim_client::front::{CODE_DIR, socket};
use samara_shim_client::upgrade::SERVICE;

/// Name under which containerd 1.x knows the same service.
const TASK_V2: &str = "containerd.task.v2.Task";

/// How long another front may take to serve or to end.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Why a front cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("start the zygote")]
    Zygote(#[source] io::Error),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Code(#[from] samara_runtime::code::CacheError),
    #[error("serve")]
    Ttrpc(#[from] ttrpc::Error),
    #[error("build the runtime")]
    Runtime(#[source] io::Error),
}

/// Serves until it is told to end. Returns at once if another front serves there already.
///
/// With `inherited`, this process was a front there before it became another binary.
pub(super) fn serve(dir: &Path, publish: Option<Publish>, inherited: bool) -> Result<(), ServeError> {
    // Fails for the leader of a session, which is as good.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| io_error("become the subreaper of", dir)(errno.into()))?;
    let entered = if inherited {
        Some(Inherited::take().map(|inherited| (Place::new(dir), inherited)).map_err(io_error("go on in", dir))?)
    } else {
        Place::enter_or_find(dir)?
    };
    let Some((place, held)) = entered else {
        return announce(io::stdout(), dir);
    };
    let answer = place.log_instead_of_output()?;
    let served = serve_in(&place, publish, &held, inherited, &answer);
    if let Err(error) = &served {
        let why = super::error::chain(error);
        tracing::error!(error = why, "the front ends");
        // Standard error is the log by now. The starter takes what is no address for the reason.
        let _ = writeln!(&answer, "{FAILED}{why}");
    }
    served
}

fn serve_in(
    place: &Place,
    publish: Option<Publish>,
    held: &Inherited,
    inherited: bool,
    answer: &File,
) -> Result<(), ServeError> {
    raise_file_limit();
    // Nobody else would reap the zygote of the front that this process was.
    let before =
        if inherited { orphan::children().map_err(io_error("read children of", &place.dir))? } else { Vec::new() };
    let zygote = place.zygote();
    let living = if inherited { Living::start(&zygote, Before::Another) } else { Living::find_or_start(&zygote) };
    let living = living.map_err(ServeError::Zygote)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Runtime)?;
    runtime.block_on(run(place, living, publish, held, before, answer))
}

async fn run(
    place: &Place,
    living: Living,
    publish: Option<Publish>,
    held: &Inherited,
    before: Vec<i32>,
    answer: &File,
) -> Result<(), ServeError> {
    let namespace = publish.as_ref().map_or("samara", |publish| publish.namespace.as_str()).into();
    let master = if publish.is_some() { Master::Containerd } else { Master::Agent };
    let events = match publish {
        Some(Publish { address, namespace }) if !address.is_empty() => Events::to_containerd(address, namespace),
        _ => Events::default(),
    };
    let cgroups = Arc::new(Cgroups::detect()?);
    let code_dir = std::env::var_os(CODE_DIR).map_or_else(|| DEFAULT_CODE_DIR.into(), PathBuf::from);
    let codes = Codes::new(CodeCache::open(&code_dir)?);
    let adopted = adopt::adopt(&place.links(), &cgroups, &events).await.map_err(io_error("adopt", &place.dir))?;
    let children: Vec<_> = adopted.iter().flat_map(|task| task.processes()).collect();
    orphan::reap_others(before, &children);
    let forks = Forks::run(&place.zygote(), living, children).map_err(ServeError::Zygote)?;
    let cpus = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    let tools = Tools { forks: forks.clone(), codes, cgroups, events, host: Host { cpus, master }, namespace };
    // containerd has no container of a sandbox's name: it hears nothing of it.
    let quiet = Tools { events: Events::default(), ..tools.clone() };
    let sandboxes = Arc::new(Tasks::new(quiet, &place.links(), Vec::new()));
    let tasks = Arc::new(Tasks::new(tools, &place.links(), adopted));
    tokio::spawn(logs::keep_small(Arc::clone(&tasks)));
    tokio::spawn(tasks.tools.codes.clone().forget_removed());

    let over = Arc::new(Notify::new());
    let (asks, mut asked) = mpsc::channel(1);
    let service = Service::new(Arc::clone(&tasks), Arc::clone(&over));
    let changes = service.changes();
    let listener = held.listener.try_clone().map_err(io_error("listen in", &place.dir))?;
    let upgrades = upgrade::service((master == Master::Agent).then_some(asks));
    let server = server(service, upgrades, listener).map_err(io_error("listen in", &place.dir))?;
    let mut server = server.register_service(listening::service(Arc::clone(&tasks)));
    if master == Master::Containerd {
        let service = Sandboxes::new(Arc::clone(&sandboxes), Arc::clone(&tasks), Arc::clone(&over));
        server = server.register_service(create_sandbox(Arc::new(service)));
    }
    server.start().await?;
    announce(answer, &place.dir)?;
    loop {
        tokio::select! {
            () = over.notified() => if tasks.is_empty() && sandboxes.is_empty() {
                break;
            },
            Some(ask) = asked.recv() => upgrade::carry_out(ask, &mut server, &changes, &place.dir, held).await?,
        }
    }
    server.shutdown().await?;
    forks.retire();
    place.leave()
}

/// A hundred creations at once hold more files than the usual soft limit. Containers have their own limits.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, "raise the limit of open files");
    }
}

/// The task service under both its names, and our own.
fn server(
    service: Service,
    upgrades: ttrpc::r#async::Service,
    listener: UnixListener,
) -> io::Result<ttrpc::r#async::Server> {
    let listener = Listener::try_from(listener)?;
    let v2 = create_task(Arc::new(service.clone())).into_values().map(|service| (TASK_V2.to_owned(), service));
    let server = ttrpc::r#async::Server::new().register_service(create_task(Arc::new(service)));
    let own = [(SERVICE.to_owned(), upgrades)].into();
    Ok(server.register_service(v2.collect()).register_service(own).add_listener(listener))
}

fn announce(mut answer: impl io::Write, dir: &Path) -> Result<(), ServeError> {
    // A starter that went away in the meantime finds the socket by its name.
    match writeln!(answer, "{}", socket(dir).display()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(io_error("answer from", dir)),
    }
}

/// The front's directory, which nobody else serves while this lives.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Enters when nobody else does: another that has the lock either serves, is about to, or is dying. `None`: it serves.
    fn enter_or_find(dir: &Path) -> Result<Option<(Self, Inherited)>, ServeError> {
        let began = Instant::now();
        loop {
            if let Some(place) = Self::enter(dir)? {
                return Ok(Some(place));
            }
            let serves = std::os::unix::net::UnixStream::connect(socket(dir)).is_ok();
            if serves || began.elapsed() > SETTLED_WITHIN {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `None` if it is taken.
    fn enter(dir: &Path) -> Result<Option<(Self, Inherited)>, ServeError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for dir in [dir, &dir.join("tasks")] {
            builder.create(dir).map_err(io_error("make", dir))?;
        }
        let path = dir.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(io_error("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(io_error("lock", &path)(errno.into())),
        }
        // For whoever looks; the lock itself says whether it is true.
        lock.set_len(0).and_then(|()| write!(&lock, "{}", std::process::id())).map_err(io_error("write", &path))?;
        match fs::remove_file(socket(dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &socket(dir))(error));
            }
            _ => {}
        }
        let place = Self::new(dir);
        let listener = UnixListener::bind(place.socket()).map_err(io_error("listen on", &place.socket()))?;
        Ok(Some((place, Inherited { listener, lock })))
    }

    fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    fn zygote(&self) -> PathBuf {
        self.dir.join("zygote.sock")
    }

    fn links(&self) -> PathBuf {
        self.dir.join("tasks")
    }

    /// Standard output and error become the log, also of the zygote. Gives the old output, for the answer.
    fn log_instead_of_output(&self) -> Result<File, ServeError> {
        let path = self.dir.join("front.log");
        let done = super::log::begin(&path).and_then(|log| {
            let answer = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
            nix::unistd::dup2_stdout(&log)?;
            nix::unistd::dup2_stderr(&log)?;
            Ok(answer.into())
        });
        done.map_err(io_error("write to", &path))
    }

    /// Removes the directory. The zygote ends when its socket's name is gone and its last process has ended.
    fn leave(&self) -> Result<(), ServeError> {
        fs::remove_dir_all(&self.dir).map_err(io_error("remove", &self.dir))
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServeError + use<> {
    let path = path.to_path_buf();
    move |source| ServeError::Io { operation, path, source }
}
