//! The spec's own profile (`linux.seccomp`) as programs to be stacked.
//!
//! A program knows one action for what matches and one for the rest, so a profile becomes one program per action that is
//! not the default one (everything else passes), and one for the default action, which lets through whatever has a rule.
//! Where rules for one call overlap, the strictest holds.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};
use seccompiler::{BackendError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::tree::{Table, Verdict, compile};
use super::{Filter, FilterError, names};

/// The profile asks for something that is not given.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("seccomp action {0} is not supported")]
    Action(&'static str),
    #[error("a seccomp rule looks at argument {0}, a system call has six")]
    Argument(usize),
}

impl Filter {
    /// From the spec. Architectures are not looked at: a guest's process has the node's own. Unknown calls are skipped,
    /// as `libseccomp` does.
    pub(in crate::container) fn from_profile(profile: &LinuxSeccomp) -> Result<Self, FilterError> {
        let default = action(profile.default_action(), profile.default_errno_ret())?;
        let mut by_action: BTreeMap<u32, Table> = BTreeMap::new();
        let mut named = Table::new();
        for syscall in profile.syscalls().iter().flatten() {
            let matched = action(syscall.action(), syscall.errno_ret())?;
            if matched == default {
                continue;
            }
            for number in syscall.names().iter().filter_map(|name| names::number(name)) {
                let rule = rule(syscall)?;
                add(&mut named, number, rule.clone(), &SeccompAction::Allow);
                if matched != SeccompAction::Allow {
                    add(by_action.entry(matched.clone().into()).or_default(), number, rule, &matched);
                }
            }
        }
        let mut programs = Vec::new();
        for table in by_action.into_values() {
            programs.push(compile(&table, &SeccompAction::Allow)?);
        }
        // Last, because it may refuse the call by which filters are applied.
        if default != SeccompAction::Allow {
            programs.push(compile(&named, &default)?);
        }
        Ok(Self(programs))
    }
}

/// `None` matches whatever the arguments.
fn add(table: &mut Table, number: i64, rule: Option<SeccompRule>, then: &SeccompAction) {
    let Some(verdict) = table.get_mut(&number) else {
        table.insert(number, Verdict { rules: rule.into_iter().collect(), then: then.clone() });
        return;
    };
    match (&mut verdict.rules, rule) {
        // An empty list means any arguments already.
        (there, Some(rule)) if !there.is_empty() => there.push(rule),
        (_, Some(_)) => {}
        (there, None) => there.clear(),
    }
}

fn rule(syscall: &LinuxSyscall) -> Result<Option<SeccompRule>, FilterError> {
    let conditions: Vec<SeccompCondition> =
        syscall.args().iter().flatten().map(condition).collect::<Result<_, FilterError>>()?;
    match conditions.is_empty() {
        true => Ok(None),
        false => Ok(Some(SeccompRule::new(conditions)?)),
    }
}

fn condition(arg: &LinuxSeccompArg) -> Result<SeccompCondition, FilterError> {
    let index = u8::try_from(arg.index()).ok().filter(|index| *index < 6).ok_or(ProfileError::Argument(arg.index()))?;
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (SeccompCmpOp::Ne, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (SeccompCmpOp::Lt, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (SeccompCmpOp::Le, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (SeccompCmpOp::Eq, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (SeccompCmpOp::Ge, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (SeccompCmpOp::Gt, arg.value()),
        // The mask comes first in the spec, what is left of the argument has to be the second value.
        LinuxSeccompOperator::ScmpCmpMaskedEq => (SeccompCmpOp::MaskedEq(arg.value()), arg.value_two().unwrap_or(0)),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value).map_err(|error: BackendError| error.into())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<SeccompAction, ProfileError> {
    let errno = errno.unwrap_or(libc::EPERM.cast_unsigned());
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
        LinuxSeccompAction::ScmpActErrno => SeccompAction::Errno(errno),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        LinuxSeccompAction::ScmpActTrace => SeccompAction::Trace(errno),
        LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        LinuxSeccompAction::ScmpActNotify => return Err(ProfileError::Action("SCMP_ACT_NOTIFY")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: serde_json::Value) -> Result<Filter, FilterError> {
        Filter::from_profile(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_deny_list_is_one_program() {
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO"}],
        });
        assert_eq!(filter(profile).unwrap().0.len(), 1);
    }

    #[test]
    fn an_allow_list_with_errnos_is_one_program_per_action_and_the_default_last() {
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
                {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["ptrace"], "action": "SCMP_ACT_KILL_PROCESS"},
            ],
        });
        assert_eq!(filter(profile).unwrap().0.len(), 3);
    }

    #[test]
    fn a_profile_without_effect_is_no_program() {
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
        });
        assert!(filter(profile).unwrap().0.is_empty());
    }

    #[test]
    fn notify_and_a_seventh_argument_are_refused() {
        let notify = serde_json::json!({"defaultAction": "SCMP_ACT_NOTIFY"});
        assert!(matches!(filter(notify), Err(FilterError::Profile(ProfileError::Action(_)))));
        let seventh = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
                          "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}],
        });
        assert!(matches!(filter(seventh), Err(FilterError::Profile(ProfileError::Argument(6)))));
    }
}
