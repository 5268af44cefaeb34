//! Landlock: what even host code under a guest's control cannot do with files, signals and abstract sockets.

use std::os::fd::AsFd as _;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, Scope, make_bitflags,
};
use rustix::fs::{Mode, OFlags, open};

/// The newest version whose every right was looked at; an older kernel enforces what it knows of it.
const VERSION: ABI = ABI::V6;

/// Landlock refused a rule. A kernel without it is no error.
#[derive(Debug, thiserror::Error)]
pub enum LandlockError {
    #[error("open / for landlock")]
    Root(#[source] std::io::Error),
    #[error("restrict with landlock")]
    Rules(#[from] RulesetError),
}

/// Below `/`, everything but executing, device nodes and device commands; outside (a file descriptor that leads there,
/// a mount moved there) nothing. No signal and no abstract socket beyond this process.
pub(super) fn restrict() -> Result<(), LandlockError> {
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| LandlockError::Root(errno.into()))?;
    let never = make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | IoctlDev});
    let all = AccessFs::from_all(VERSION);
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rule(PathBeneath::new(root.as_fd(), all & !never))?
        .restrict_self()?;
    Ok(())
}
