//! Where a container's output goes: the URI in a task request's `stdout` and `stderr`.
//!
//! | form | meaning |
//! |---|---|
//! | `` (empty) | `/dev/null` |
//! | `/path` or `fifo:///path` | a fifo, opened `O_RDWR`, so that neither side waits for the other |
//! | `file:///path` | appended to, raw bytes |
//! | `cri:///path?max-size=BYTES&max-files=N` | CRI log records (`<RFC3339Nano> stdout F text`), rotated by the front |
//! | `binary:///path?args` | a logging program as containerd starts them |
//!
//! stdout and stderr of a container may name the same `cri://` file; each record says which stream it is.
