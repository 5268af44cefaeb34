//! Starts one attempt: image, environment, mounts, spec, bundle, front. A failure says what the container waits for.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use samara_core::admission::unsupported;
use samara_core::env::{self, Environment, environment, expand_sub_path};
use samara_core::events;
use samara_core::objects::Objects as Values;
use samara_core::oci::{self, ImageConfig, spec, spec_hash};
use samara_core::pod::{ContainerKind, StartContainer, Waiting};
use samara_core::reasons::waiting;
use samara_images::{Content, Image};
use samara_inside::remove_directory_at;
use samara_shim_client::output::{CriLog, OutputUri};
use samara_shim_client::{RootMount, ShimError, Standard};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span, info};

use super::PodRef;
use super::context::Context;
use super::happened::{Happened, Started};
use super::logs;
use super::sandbox::Sandbox;
use super::worker::container;
use crate::images::{PodAccount, Ready, Wish};
use crate::shims::{Record, StartError, Task, write_bundle};
use crate::starts::Phase;

/// After a failure that may pass.
const RETRY: Duration = Duration::from_secs(10);
/// After a refusal that only a change of the pod can mend.
const LONG_RETRY: Duration = Duration::from_secs(300);

/// What to start.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) context: Arc<Context>,
    pub(super) pod_ref: PodRef,
    pub(super) pod: Arc<Pod>,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) action: StartContainer,
    pub(super) call_off: CancellationToken,
}

/// Why it does not run.
#[derive(Debug)]
enum NotStarted {
    CalledOff,
    Waiting { reason: &'static str, message: String, retry_at: Timestamp },
}

impl NotStarted {
    fn because(reason: &'static str, message: impl Into<String>, retry: Duration) -> Self {
        let retry_at = Timestamp::now().saturating_add(retry).unwrap_or(Timestamp::MAX);
        Self::Waiting { reason, message: message.into(), retry_at }
    }
}

/// Starts it, or says why not; what was made in vain is removed.
pub(super) async fn start(start: Start) -> Happened {
    let name = start.action.name.clone();
    let span = debug_span!("start", container = name, attempt = start.action.attempt);
    // A bug on the way must not leave the container in the state of being started for ever.
    let attempted = AssertUnwindSafe(attempt(&start)).catch_unwind().instrument(span).await.unwrap_or_else(|_| {
        Err(NotStarted::because(waiting::CREATE_CONTAINER_ERROR, "internal error: see the agent's log", LONG_RETRY))
    });
    match attempted {
        Ok(started) => Happened::Started(Box::new(started)),
        Err(NotStarted::CalledOff) => Happened::CalledOff { name },
        Err(NotStarted::Waiting { reason, message, retry_at }) => {
            info!(container = name, reason, message, "container not started");
            crate::metrics::agent().container_not_started(start.action.kind == ContainerKind::Init, reason);
            // For an image the event names the reason, as the kubelet's does; for the rest the message.
            let image = matches!(
                reason,
                waiting::ERR_IMAGE_PULL
                    | waiting::IMAGE_PULL_BACK_OFF
                    | waiting::ERR_IMAGE_NEVER_PULL
                    | waiting::INVALID_IMAGE_NAME
                    | waiting::IMAGE_INSPECT_ERROR
            );
            start.record(events::error(if image { reason } else { &message }));
            Happened::NotStarted { name, waiting: Waiting { reason, message, retry_at: Some(retry_at) } }
        }
    }
}

impl Start {
    fn record(&self, event: events::Event) {
        self.context.record_container(&self.pod_ref, &self.pod, &self.action.name, event);
    }
}

async fn attempt(start: &Start) -> Result<Started, NotStarted> {
    let config_error = |message: String| NotStarted::because(waiting::CREATE_CONTAINER_CONFIG_ERROR, message, RETRY);
    let create_error = |message: String| NotStarted::because(waiting::CREATE_CONTAINER_ERROR, message, RETRY);
    let name = &start.action.name;
    let container =
        container(&start.pod, name).ok_or_else(|| config_error(format!("container {name:?} is not in the spec")))?;
    if let Some(message) = unsupported(&start.pod) {
        return Err(NotStarted::because(waiting::CREATE_CONTAINER_CONFIG_ERROR, message, LONG_RETRY));
    }
    let mut values = Values::clone(&start.sandbox.values());
    // As they are at this moment: nobody tells of a change (kubelet: `makeEnvironmentVariables`).
    values.services = start.context.objects.services.of(&start.pod_ref.namespace).await;
    let (starts, uid) = (&start.context.starts, &*start.pod_ref.uid);
    let measured = starts.measure(uid, Phase::Image, Some(name));
    let ready = image(start, container, &values.secrets).await?;
    drop(measured);
    let measured = starts.measure(uid, Phase::Bundle, Some(name));
    let sources = env::Sources {
        objects: &values,
        pod_ips: &start.sandbox.pod_ips,
        host_ips: &start.sandbox.host_ips,
        allocatable: &start.sandbox.allocatable,
    };
    let environment = environment(&start.pod, container, &sources).map_err(|error| config_error(error.to_string()))?;

    let id = new_id();
    let spec = make_spec(start, container, &ready, &environment, &id).map_err(config_error)?;
    let log = logs::prepare(&start.context.layout, &start.pod_ref, name, start.action.attempt)
        .map_err(|error| create_error(error.to_string()))?;
    let front = start.context.shims.assign(&start.pod_ref.uid);
    let mut record = Record {
        id: id.clone(),
        name: name.clone(),
        init: start.action.kind == ContainerKind::Init,
        attempt: start.action.attempt,
        image: ready.image.reference.to_string(),
        image_id: ready.image.pinned().to_string(),
        spec_hash: spec_hash(container),
        front: front.number(),
        log: log.clone(),
        started_at: None,
        ended: None,
    };
    let bundle = start.context.layout.bundle(&start.pod_ref.uid, name, start.action.attempt);
    write_bundle(&bundle, &spec, &record).map_err(|error| create_error(text(&error)))?;
    if start.call_off.is_cancelled() {
        drop(remove_directory_at(&bundle));
        return Err(NotStarted::CalledOff);
    }
    let task = Task::new(&id, &bundle, front);
    drop(measured);
    let _measured = starts.measure(uid, Phase::Start, Some(name));
    let result = run(start, container, &ready.image, &task, &mut record).await;
    if let Err(reason) = result {
        discard(&task).await;
        return Err(reason);
    }
    logs::link(&start.context.layout, &start.pod_ref, name, &id, &log);
    Ok(Started { task, record, delay: start.action.delay })
}

async fn image(
    start: &Start,
    container: &Container,
    secrets: &std::collections::BTreeMap<String, samara_core::objects::Fetched<k8s_openapi::api::core::v1::Secret>>,
) -> Result<Ready, NotStarted> {
    let wanted = samara_core::volumes::references(&start.pod).image_pull_secrets;
    let secrets = secrets.iter().filter(|(name, _)| wanted.contains(*name));
    let secrets = secrets.map(|(name, fetched)| (name.clone(), fetched.clone())).collect();
    let account = start.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).map(|name| PodAccount {
        tokens: &start.context.objects.tokens,
        pod: &start.pod_ref,
        name,
    });
    let wish = Wish {
        pod_uid: &start.pod_ref.uid,
        namespace: &start.pod_ref.namespace,
        container,
        secrets: &secrets,
        account: account.as_ref().map(|account| account as _),
        record: &|event| start.record(event),
    };
    let ensured = start.context.images.ensure(wish).instrument(debug_span!("image"));
    tokio::select! {
        () = start.call_off.cancelled() => Err(NotStarted::CalledOff),
        ready = ensured => ready.map_err(|failure| NotStarted::Waiting {
            reason: failure.reason,
            message: failure.message,
            retry_at: failure.retry_at,
        }),
    }
}

fn make_spec(
    start: &Start,
    container: &Container,
    ready: &Ready,
    environment: &Environment,
    id: &str,
) -> Result<oci_spec::runtime::Spec, String> {
    let attempt = start.action.attempt;
    let mut expansion_error = None;
    let mut expanded = std::collections::BTreeMap::new();
    for expression in container.volume_mounts.iter().flatten().filter_map(|mount| mount.sub_path_expr.as_ref()) {
        match expand_sub_path(expression, environment) {
            Ok(path) => drop(expanded.insert(expression.clone(), path)),
            Err(error) => expansion_error = Some(error.to_string()),
        }
    }
    if let Some(error) = expansion_error {
        return Err(error);
    }
    let expand = |expression: &str| expanded.get(expression).cloned().unwrap_or_default();
    let mounts = start.sandbox.volumes.mounts(&start.pod, container, attempt, &expand)?;
    let image = image_config(start, ready);
    let request = oci::Request {
        pod: &start.pod,
        container,
        attempt,
        image: &image,
        environment,
        mounts: &mounts,
        network: &start.sandbox.network,
        cgroups_path: &format!("{}/{id}", pod_cgroup(&start.context.config.cgroup_root, &start.pod_ref.uid)),
        node_memory: start.sandbox.allocatable.get("memory").map_or(0, samara_core::quantity::Amount::value),
    };
    let mut spec = spec(&request).map_err(|error| text(&error))?;
    if let Content::Module { .. } = &ready.image.content
        && let Some(root) = spec.root_mut()
    {
        root.set_path(empty_root(start)?);
    }
    Ok(spec)
}

/// The root of an image that is only a module: an empty directory on disk, as an overlay's writable layer is. In the
/// bundle, which is in memory, what the guest writes would count for nobody.
fn empty_root(start: &Start) -> Result<PathBuf, String> {
    let dir = start.context.layout.container(&start.pod_ref.uid, &start.action.name, start.action.attempt);
    let root = dir.join("rootfs");
    std::fs::create_dir_all(&root).map_err(|error| format!("make {}: {error}", root.display()))?;
    Ok(root)
}

fn image_config(start: &Start, ready: &Ready) -> ImageConfig {
    let config = &ready.image.config;
    ImageConfig {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        passwd: start.context.images.passwd(&ready.image),
        module: Some(ready.module.clone()),
    }
}

async fn run(
    start: &Start,
    container: &Container,
    image: &Image,
    task: &Task,
    record: &mut Record,
) -> Result<(), NotStarted> {
    let stdin = if container.stdin == Some(true) { stdin_fifo(task) } else { String::new() };
    let log = CriLog {
        path: record.log.clone(),
        max_size: Some(start.context.config.log_max_size),
        max_files: start.context.config.log_max_files.max(2),
    };
    let output = OutputUri::Cri(log).to_string();
    let terminal = container.tty == Some(true);
    let stderr = if terminal { String::new() } else { output.clone() };
    let standard = Standard { stdin, stdout: output, stderr, terminal };
    let rootfs = rootfs(start, image, record)
        .map_err(|error| NotStarted::because(waiting::CREATE_CONTAINER_ERROR, error, RETRY))?;
    let started = task.create_and_start(rootfs, standard).instrument(debug_span!("run")).await;
    started.map_err(|error| match error {
        StartError::Create(error) => NotStarted::because(waiting::CREATE_CONTAINER_ERROR, said(&error), RETRY),
        StartError::Run(error) => {
            start.record(events::created());
            NotStarted::because(waiting::RUN_CONTAINER_ERROR, said(&error), RETRY)
        }
    })?;
    start.record(events::created());
    start.record(events::started());
    crate::metrics::agent().container_started(record.init);
    record.started_at = Some(Timestamp::now());
    record
        .write(task.bundle().dir())
        .map_err(|error| NotStarted::because(waiting::RUN_CONTAINER_ERROR, text(&error), RETRY))?;
    info!(container = record.name, attempt = record.attempt, id = record.id, "container started");
    Ok(())
}

/// The image's layers under a writable one; nothing for an image that is only a module: see [`empty_root`].
fn rootfs(start: &Start, image: &Image, record: &Record) -> Result<Vec<RootMount>, String> {
    let Content::Rootfs { layers } = &image.content else { return Ok(Vec::new()) };
    let dir = start.context.layout.container(&start.pod_ref.uid, &record.name, record.attempt);
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    for path in [&upper, &work] {
        std::fs::create_dir_all(path).map_err(|error| format!("make {}: {error}", path.display()))?;
    }
    let lower: Vec<String> = layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    Ok(vec![RootMount {
        typ: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={}", upper.display()),
            format!("workdir={}", work.display()),
        ],
    }])
}

/// For `attach`: whoever attaches writes into it.
fn stdin_fifo(task: &Task) -> String {
    let path: PathBuf = task.bundle().dir().join("stdin");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    if let Err(error) = rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0) {
        tracing::warn!(%error, path = %path.display(), "no fifo for standard input");
        return String::new();
    }
    path.display().to_string()
}

/// Removes what was made of an attempt that does not run.
pub(super) async fn discard(task: &Task) {
    drop(task.kill(crate::shims::Signal::Kill).await);
    // Deleted only once ended, which after SIGKILL it soon is.
    for pause in [1, 5, 25, 125, 625] {
        if task.delete().await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    drop(remove_directory_at(task.bundle().dir()));
}

/// `/samara/pod<uid>`.
pub(super) fn pod_cgroup(root: &str, uid: &str) -> String {
    format!("{root}/pod{uid}")
}

/// 64 hexadecimal digits.
fn new_id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// What the shim said, without our own words about the call.
fn said(error: &ShimError) -> String {
    match error {
        ShimError::NotFound { message, .. }
        | ShimError::AlreadyExists { message, .. }
        | ShimError::FailedPrecondition { message, .. }
        | ShimError::InvalidArgument { message, .. }
        | ShimError::Other { message, .. } => message.clone(),
        ShimError::Unavailable { .. } | ShimError::Connect { .. } => error.to_string(),
    }
}

fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
