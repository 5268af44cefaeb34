//! Reasons, as Kubernetes spells them.

/// `status.reason` of a pod.
pub mod pod {
    pub const OUT_OF_CPU: &str = "OutOfcpu";
    pub const OUT_OF_MEMORY: &str = "OutOfmemory";
    pub const OUT_OF_EPHEMERAL_STORAGE: &str = "OutOfephemeral-storage";
    pub const OUT_OF_PODS: &str = "OutOfpods";
    pub const NODE_AFFINITY: &str = "NodeAffinity";
    pub const TAINT_TOLERATION: &str = "TaintToleration";
    pub const NODE_NAME: &str = "NodeName";
    pub const NODE_PORTS: &str = "NodePorts";
    pub const POD_OS_SELECTOR_NODE_LABEL_DOES_NOT_MATCH: &str = "PodOSSelectorNodeLabelDoesNotMatch";
    pub const POD_OS_NOT_SUPPORTED: &str = "PodOSNotSupported";
    pub const SUPPLEMENTAL_GROUPS_POLICY_NOT_SUPPORTED: &str = "SupplementalGroupsPolicyNotSupported";
    pub const UNEXPECTED_ADMISSION_ERROR: &str = "UnexpectedAdmissionError";
    pub const NODE_SHUTDOWN: &str = "NodeShutdown";
    pub const TERMINATED: &str = "Terminated";
    pub const EVICTED: &str = "Evicted";
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
}

/// `state.waiting.reason` of a container.
pub mod waiting {
    pub const CONTAINER_CREATING: &str = "ContainerCreating";
    pub const POD_INITIALIZING: &str = "PodInitializing";
    pub const CRASH_LOOP_BACK_OFF: &str = "CrashLoopBackOff";
    pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
    pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
    pub const ERR_IMAGE_NEVER_PULL: &str = "ErrImageNeverPull";
    pub const INVALID_IMAGE_NAME: &str = "InvalidImageName";
    pub const IMAGE_INSPECT_ERROR: &str = "ImageInspectError";
    pub const CREATE_CONTAINER_CONFIG_ERROR: &str = "CreateContainerConfigError";
    pub const CREATE_CONTAINER_ERROR: &str = "CreateContainerError";
    pub const RUN_CONTAINER_ERROR: &str = "RunContainerError";
    pub const POST_START_HOOK_ERROR: &str = "PostStartHookError";
}

/// `state.terminated.reason` of a container.
pub mod terminated {
    pub const COMPLETED: &str = "Completed";
    pub const ERROR: &str = "Error";
    pub const OOM_KILLED: &str = "OOMKilled";
    pub const CONTAINER_STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
    pub const START_ERROR: &str = "StartError";
}

/// `reason` of a pod's condition.
pub mod condition {
    pub const UNKNOWN_CONTAINER_STATUSES: &str = "UnknownContainerStatuses";
    pub const CONTAINERS_NOT_INITIALIZED: &str = "ContainersNotInitialized";
    pub const CONTAINERS_NOT_READY: &str = "ContainersNotReady";
    pub const READINESS_GATES_NOT_READY: &str = "ReadinessGatesNotReady";
    pub const POD_COMPLETED: &str = "PodCompleted";
    pub const POD_FAILED: &str = "PodFailed";
    pub const TERMINATION_BY_KUBELET: &str = "TerminationByKubelet";
}
