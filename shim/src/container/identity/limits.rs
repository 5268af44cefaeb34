//! Resource limits (`setrlimit`).

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::IdentityError;

/// Raising a hard limit takes CAP_SYS_RESOURCE; without it the container cannot be what was asked for, and ends.
pub(super) fn apply(limits: &[PosixRlimit]) -> Result<(), IdentityError> {
    for limit in limits {
        let value = Rlimit { current: finite(limit.soft()), maximum: finite(limit.hard()) };
        setrlimit(resource(limit.typ()), value).map_err(|errno| IdentityError::Limit {
            name: limit.typ().to_string(),
            soft: limit.soft(),
            hard: limit.hard(),
            source: errno.into(),
        })?;
    }
    Ok(())
}

/// The spec writes infinity as the largest number.
fn finite(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}
