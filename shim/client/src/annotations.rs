//! The one table of annotation keys in a bundle's `config.json`: all that a container needs and the OCI runtime spec has no field for.

/// UID of the pod. Value: the API object's `metadata.uid`.
pub const POD_UID: &str = "samara.dev/pod-uid";
/// Name of the pod.
pub const POD_NAME: &str = "samara.dev/pod-name";
/// Namespace of the pod.
pub const POD_NAMESPACE: &str = "samara.dev/pod-namespace";
/// Name of the container in the pod's spec.
pub const CONTAINER_NAME: &str = "samara.dev/container-name";
/// How often this container was started before in this pod: 0 for the first. Becomes `restartCount`.
pub const ATTEMPT: &str = "samara.dev/attempt";
/// Hash of the container's spec that this attempt was made from (`samara_core`); a difference means: kill and make anew.
pub const SPEC_HASH: &str = "samara.dev/spec-hash";
/// Absolute host path of the wasm file, for an image that is only a module or component (it has no root file system).
/// Without it, `process.args[0]` is looked up in the root file system, by `PATH` if it has no slash.
pub const MODULE: &str = "samara.dev/module";
/// `sha256:...` of the wasm that the container's first process runs, as the agent verified it at pull.
pub const MODULE_DIGEST: &str = "samara.dev/module-digest";
/// The pod's addresses, comma-separated, primary first. Absent for `hostNetwork` and outside a cluster.
pub const POD_IPS: &str = "samara.dev/pod-ips";
/// The pod's own loopback address (in 127/8), in mode `anyip`.
pub const POD_LOOPBACK: &str = "samara.dev/pod-loopback";
/// Port on which a `wasi:http` guest listens if its environment has no `PORT`. Default 8080.
pub const HTTP_PORT: &str = "samara.dev/http-port";
/// The pod's `terminationGracePeriodSeconds`, decimal. Default 30.
pub const GRACE_PERIOD: &str = "samara.dev/termination-grace-period-seconds";
/// Whole-second time limit of one http request (time spent waiting). Default 60.
pub const HTTP_REQUEST_TIMEOUT: &str = "samara.dev/http-request-timeout-seconds";
/// Requests that one instance of a `wasi:http` guest may answer, one after the other; default 1, which gives each request
/// an instance of its own. More is faster, and for guests whose globals may be seen by the next request.
pub const GUEST_HTTP_REUSE: &str = "samara.dev/guest.http-reuse";
/// Bytes that the body of one http request may have; more is answered 413. Default: as many as the client sends.
pub const GUEST_HTTP_MAX_BODY: &str = "samara.dev/guest.http-max-body-bytes";
/// Connections an http guest has at a time; one more is answered 503. Default 4096.
pub const GUEST_HTTP_CONNECTIONS: &str = "samara.dev/guest.http-connections";
/// Name servers for guests' look-ups, comma-separated; absent: the host's `resolv.conf`.
pub const DNS_SERVERS: &str = "samara.dev/dns-servers";
/// DNS search list, comma-separated.
pub const DNS_SEARCHES: &str = "samara.dev/dns-searches";
/// DNS options (`ndots:5`), comma-separated.
pub const DNS_OPTIONS: &str = "samara.dev/dns-options";
/// JSON of an OCI `linux.resources` for the *parent* of the container's cgroup (the pod's), made with it if missing.
pub const POD_RESOURCES: &str = "samara.dev/pod-resources";
