//! Control groups, v1, v2 and the hybrid of both: made, limited, measured and removed.
//!
//! Thin and our own because the libraries for it move processes by `cgroup.procs`, which on v1 takes the kernel up to
//! 27 ms, where writing `tasks` for a single-threaded process takes none; so the process itself does that, through files
//! which [`Cgroup::open_tasks`] gives it.
//!
//! What is decided ([`path`], [`limits`], [`stats`]: tables and parsers) is apart from what is done ([`group`]).

pub mod group;
pub mod hierarchy;
pub mod limits;
pub mod path;
pub mod stats;

pub use group::{Cgroup, CgroupError};
pub use hierarchy::{Cgroups, Controller, Version};
pub use stats::{CpuStats, MemoryStats, PidsStats, Stats};
