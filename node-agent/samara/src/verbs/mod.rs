//! The verbs for containers, one file each.

pub(crate) mod attach;
pub(crate) mod cp;
mod each;
pub(crate) mod exec;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
mod tail;
pub(crate) mod top;
pub(crate) mod wait;
