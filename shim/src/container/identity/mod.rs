//! Who a container is to the kernel: labels, limits, capabilities, ids. In this order, because each step gives away
//! what the one before needed.

use std::io;

use rustix::fs::Mode;

use crate::plan::Identity;

mod capabilities;
mod ids;
mod labels;
mod limits;
mod score;

pub(super) use labels::LabelError;

/// A process could not become who it is to be.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error("limit {name} to {soft} (at most {hard})")]
    Limit {
        name: String,
        soft: u64,
        hard: u64,
        #[source]
        source: io::Error,
    },
    #[error("set oom_score_adj to {value}")]
    OomScore {
        value: i32,
        #[source]
        source: io::Error,
    },
    #[error("{operation}")]
    Change {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Files of `/proc` that are written later, opened while there is one.
#[derive(Debug)]
pub(super) struct Opened {
    labels: labels::Opened,
    score: Option<score::Opened>,
}

impl Opened {
    pub(super) fn new(identity: &Identity) -> Result<Self, IdentityError> {
        Ok(Self {
            labels: labels::Opened::new(identity)?,
            score: identity.oom_score_adj.map(score::Opened::new).transpose()?,
        })
    }
}

/// Becomes `identity`. What could not be done and is no reason to end is added to `warnings`.
pub(super) fn assume(identity: &Identity, opened: Opened, warnings: &mut Vec<String>) -> Result<(), IdentityError> {
    opened.labels.apply()?;
    limits::apply(&identity.rlimits)?;
    if let Some(score) = opened.score {
        warnings.extend(score.apply()?);
    }
    rustix::process::umask(Mode::from_raw_mode(identity.umask.unwrap_or(0o022)));
    let available = capabilities::available()?;
    let sets = capabilities::Sets::of(identity.capabilities.as_ref(), identity.uid);
    warnings.extend(sets.missing(available));
    let sets = sets.within(available);
    sets.bound()?;
    ids::apply(identity)?;
    sets.apply()?;
    // Nothing can be executed anyway; the filters that follow ask for it.
    rustix::thread::set_no_new_privs(true).map_err(change("set no_new_privs"))?;
    // No core dump, and nobody of the same user looks into its memory.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(change("make the process not dumpable"))
}

fn change(operation: &'static str) -> impl Fn(rustix::io::Errno) -> IdentityError {
    move |errno| IdentityError::Change { operation, source: errno.into() }
}
