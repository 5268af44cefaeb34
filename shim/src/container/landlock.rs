//! Landlock: what even host code under a guest's control cannot do with files, signals and abstract sockets.

use std::os::fd::AsFd as _;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags,
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
///
/// What the kernel cannot do of it is told in `warnings`.
pub(super) fn restrict(warnings: &mut Vec<String>) -> Result<(), LandlockError> {
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| LandlockError::Root(errno.into()))?;
    let never = make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | IoctlDev});
    let all = AccessFs::from_all(VERSION);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rule(PathBeneath::new(root.as_fd(), all & !never))?
        .restrict_self()?;
    warnings.extend(lacking(&status.ruleset, &status.landlock));
    Ok(())
}

/// What the kernel lacks.
fn lacking(enforced: &RulesetStatus, kernel: &LandlockStatus) -> Option<String> {
    match (enforced, kernel) {
        (RulesetStatus::FullyEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            let (abi, wanted) = (*effective_abi as i32, VERSION as i32);
            Some(format!(
                "Landlock of this kernel is ABI {abi}: without the walls that came with ABI {} to {wanted}",
                abi + 1
            ))
        }
        (_, LandlockStatus::NotEnabled) => Some("no Landlock: it is not enabled on this kernel (lsm= at boot)".into()),
        (_, LandlockStatus::NotImplemented) => Some("no Landlock: this kernel has none".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_told_and_nothing_else() {
        let of = |effective_abi| LandlockStatus::Available { effective_abi, kernel_abi: None };
        assert_eq!(lacking(&RulesetStatus::FullyEnforced, &of(ABI::V6)), None);
        let partly = lacking(&RulesetStatus::PartiallyEnforced, &of(ABI::V4)).expect("a warning");
        assert_eq!(partly, "Landlock of this kernel is ABI 4: without the walls that came with ABI 5 to 6");
        for none in [LandlockStatus::NotEnabled, LandlockStatus::NotImplemented] {
            let warning = lacking(&RulesetStatus::NotEnforced, &none).expect("a warning");
            assert!(warning.starts_with("no Landlock: "), "{warning}");
        }
    }
}
