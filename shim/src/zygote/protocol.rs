//! Front and zygote: one `SOCK_SEQPACKET` connection, fixed headers, file descriptors beside them.
//!
//! ```text
//! front  ── Fork{request, pid_namespace} + fds ──────────▶ zygote
//! front  ◀─ Forked{request, pid, errno} ────────────────── zygote
//! front  ◀─ Exited{request, pid, status} (any time later) ─ zygote
//! ```
//!
//! File descriptors of `Fork`, in order: the bundle directory (records are written there), the report memfd, the status
//! pipe's write end, the plan memfd, the pid namespace to join (only with [`PidNamespace::Join`]), then the files the
//! plan names, [`crate::plan::Fd`] 0 first. The first two stay open in the zygote until the process is reaped.
//!
//! The status pipe carries the outcome of the set-up from the container to the front: nothing but end of file when all
//! is ready and the guest waits for `start`, or an error message (UTF-8, at most 4 KiB) and end of file.
//!
//! Guarantees: records are on disk before `Forked` and `Exited` are sent. `Exited` of processes that ended while no
//! front was connected is sent to the next one. Caveat: a front that connects while another is connected replaces it.
