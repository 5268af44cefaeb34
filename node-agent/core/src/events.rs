//! Events of pods and nodes: reason, type and text word for word as the kubelet's, because tools match them
//! (kubelet: `events/event.go`, `images/image_manager.go`, `kuberuntime_container.go`, `prober/prober.go`).

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What is recorded; the agent adds the object and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub event_type: EventType,
    pub reason: &'static str,
    pub message: String,
}

/// `reason` of an event.
pub mod reason {
    pub const CREATED: &str = "Created";
    pub const STARTED: &str = "Started";
    pub const FAILED: &str = "Failed";
    pub const KILLING: &str = "Killing";
    pub const BACK_OFF: &str = "BackOff";
    pub const FAILED_KILL_POD: &str = "FailedKillPod";
    pub const FAILED_CREATE_POD_SANDBOX: &str = "FailedCreatePodSandBox";
    pub const NETWORK_NOT_READY: &str = "NetworkNotReady";
    pub const PULLING: &str = "Pulling";
    pub const PULLED: &str = "Pulled";
    pub const INSPECT_FAILED: &str = "InspectFailed";
    pub const ERR_IMAGE_NEVER_PULL: &str = "ErrImageNeverPull";
    pub const FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET: &str = "FailedToRetrieveImagePullSecret";
    pub const FAILED_MOUNT: &str = "FailedMount";
    pub const UNHEALTHY: &str = "Unhealthy";
    pub const PROBE_WARNING: &str = "ProbeWarning";
    pub const FAILED_POST_START_HOOK: &str = "FailedPostStartHook";
    pub const FAILED_PRE_STOP_HOOK: &str = "FailedPreStopHook";
    pub const NODE_READY: &str = "NodeReady";
    pub const NODE_NOT_READY: &str = "NodeNotReady";
    pub const NODE_HAS_SUFFICIENT_MEMORY: &str = "NodeHasSufficientMemory";
    pub const NODE_HAS_INSUFFICIENT_MEMORY: &str = "NodeHasInsufficientMemory";
    pub const NODE_HAS_NO_DISK_PRESSURE: &str = "NodeHasNoDiskPressure";
    pub const NODE_HAS_DISK_PRESSURE: &str = "NodeHasDiskPressure";
    pub const NODE_HAS_SUFFICIENT_PID: &str = "NodeHasSufficientPID";
    pub const NODE_HAS_INSUFFICIENT_PID: &str = "NodeHasInsufficientPID";
    pub const STARTING: &str = "Starting";
    pub const REBOOTED: &str = "Rebooted";
    pub const IMAGE_GC_FAILED: &str = "ImageGCFailed";
    pub const FREE_DISK_SPACE_FAILED: &str = "FreeDiskSpaceFailed";
    pub const INVALID_DISK_CAPACITY: &str = "InvalidDiskCapacity";
}

impl Event {
    /// `Normal`.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { event_type: EventType::Normal, reason, message: message.into() }
    }

    /// `Warning`.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { event_type: EventType::Warning, reason, message: message.into() }
    }
}

/// A pull begins.
pub fn pulling(image: &str) -> Event {
    Event::normal(reason::PULLING, format!("Pulling image {}", quoted(image)))
}

/// A pull succeeded after `took`, or `waited` with the time in the queue.
pub fn pulled(image: &str, took: Duration, waited: Duration, size: u64) -> Event {
    let (took, waited) = (go_duration(whole_millis(took)), go_duration(whole_millis(waited)));
    let image = quoted(image);
    let message =
        format!("Successfully pulled image {image} in {took} ({waited} including waiting). Image size: {size} bytes.");
    Event::normal(reason::PULLED, message)
}

/// No pull was needed.
pub fn already_present(image: &str) -> Event {
    let message =
        format!("Container image {} already present on machine and can be accessed by the pod", quoted(image));
    Event::normal(reason::PULLED, message)
}

/// A pull failed. An event [`error`] with `Error: ErrImagePull` follows.
pub fn pull_failed(image: &str, cause: &str) -> Event {
    Event::warning(reason::FAILED, format!("Failed to pull image {}: {cause}", quoted(image)))
}

/// A pull waits. An event [`error`] with `Error: ImagePullBackOff` follows.
pub fn back_off_pull(image: &str) -> Event {
    Event::normal(reason::BACK_OFF, format!("Back-off pulling image {}", quoted(image)))
}

/// The image is not here and may not be pulled.
pub fn never_pull(image: &str) -> Event {
    Event::warning(reason::ERR_IMAGE_NEVER_PULL, never_pull_message(image))
}

/// Also the waiting message of `ErrImageNeverPull`.
pub fn never_pull_message(image: &str) -> String {
    format!("Container image {} is not present with pull policy of Never", quoted(image))
}

/// The image's name is none.
pub fn invalid_image_name(image: &str, cause: &str) -> Event {
    Event::warning(reason::INSPECT_FAILED, invalid_image_name_message(image, cause))
}

/// Also the waiting message of `InvalidImageName`.
pub fn invalid_image_name_message(image: &str, cause: &str) -> String {
    format!("Failed to apply default image tag {}: {cause}", quoted(image))
}

/// A container was not made or not started: `Error: ` and the waiting message, or the reason for image errors.
pub fn error(message: &str) -> Event {
    Event::warning(reason::FAILED, format!("Error: {message}"))
}

/// The container is made.
pub fn created() -> Event {
    Event::normal(reason::CREATED, "Container created")
}

/// The container is started.
pub fn started() -> Event {
    Event::normal(reason::STARTED, "Container started")
}

/// A container is about to end; the text is in [`crate::pod::KillContainer::message`].
pub fn killing(message: &str) -> Event {
    Event::normal(reason::KILLING, message)
}

/// A container waits out its restart delay.
pub fn back_off_restart(container: &str, pod: &Pod) -> Event {
    let message = format!("Back-off restarting failed container {container} in pod {}", pod_text(pod));
    Event::warning(reason::BACK_OFF, message)
}

/// The waiting message of `CrashLoopBackOff`.
pub fn back_off_message(delay: Duration, container: &str, pod: &Pod) -> String {
    format!("back-off {} restarting failed container={container} pod={}", go_duration(delay), pod_text(pod))
}

/// A volume cannot be made.
pub fn failed_mount(volume: &str, cause: &str) -> Event {
    let message = format!("MountVolume.SetUp failed for volume {} : {cause}", quoted(volume));
    Event::warning(reason::FAILED_MOUNT, message)
}

/// The pod's network, cgroup or directories cannot be made.
pub fn failed_create_sandbox(cause: &str) -> Event {
    Event::warning(reason::FAILED_CREATE_POD_SANDBOX, format!("Failed to create pod sandbox: {cause}"))
}

/// A container cannot be ended; it is tried again.
pub fn failed_kill_pod(container: &str, cause: &str) -> Event {
    let cause = quoted(cause);
    let message = format!(
        "error killing pod: failed to \"KillContainer\" for {} with KillContainerError: {cause}",
        quoted(container)
    );
    Event::warning(reason::FAILED_KILL_POD, message)
}

/// The agent has started.
pub fn starting() -> Event {
    Event::normal(reason::STARTING, "Starting kubelet.")
}

/// Images could not be collected, twice in turn.
pub fn image_gc_failed(message: &str) -> Event {
    Event::warning(reason::IMAGE_GC_FAILED, message.to_owned())
}

/// Images that nobody uses were removed, and the disk is still too full.
pub fn free_disk_space_failed(message: &str) -> Event {
    Event::warning(reason::FREE_DISK_SPACE_FAILED, message.to_owned())
}

/// The disk of images says that it has no size.
pub fn invalid_disk_capacity(message: &str) -> Event {
    Event::warning(reason::INVALID_DISK_CAPACITY, message.to_owned())
}

/// A pull secret that is named and not there.
pub fn pull_secret_missing(names: &[&str]) -> Event {
    let message = format!(
        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
        names.join(", ")
    );
    Event::warning(reason::FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET, message)
}

/// The postStart hook failed.
pub fn post_start_failed() -> Event {
    Event::warning(reason::FAILED_POST_START_HOOK, "PostStartHook failed")
}

/// The preStop hook failed.
pub fn pre_stop_failed() -> Event {
    Event::warning(reason::FAILED_PRE_STOP_HOOK, "PreStopHook failed")
}

/// `name_namespace(uid)`.
pub fn pod_text(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// As Go's `%q` writes text without control characters.
pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// As Go's `time.Duration` prints: `1m20s`, `5m0s`, `10s`, `1.5s`, `321ms`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |whole: u128, unit: u128, digits: usize| {
        let rest = format!("{:0digits$}", whole % unit);
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { format!("{}", whole / unit) } else { format!("{}.{rest}", whole / unit) }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 1_000_000, 6)),
        _ => {
            let seconds = duration.as_secs();
            let last = fraction(nanos - u128::from(seconds / 60 * 60) * 1_000_000_000, 1_000_000_000, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{last}s"),
                (0, minutes) => format!("{minutes}m{last}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{last}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(7), "7ns"),
            (Duration::from_micros(1500), "1.5ms"),
            (Duration::from_nanos(1_500), "1.5µs"),
            (Duration::from_millis(321), "321ms"),
            (Duration::from_millis(1_050), "1.05s"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(80), "1m20s"),
            (Duration::from_secs(160), "2m40s"),
            (Duration::from_secs(300), "5m0s"),
            (Duration::from_millis(3_600_500), "1h0m0.5s"),
        ] {
            assert_eq!(go_duration(duration), text);
        }
    }

    #[test]
    fn a_pull_tells_its_time_with_and_without_waiting_and_the_size() {
        let event = pulled("reg.example/hello:1", Duration::from_micros(321_999), Duration::from_millis(1_200), 4096);
        assert_eq!(event.reason, "Pulled");
        assert_eq!(
            event.message,
            "Successfully pulled image \"reg.example/hello:1\" in 321ms (1.2s including waiting). Image size: 4096 bytes."
        );
    }
}
