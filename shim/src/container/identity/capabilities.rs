//! Capabilities: exactly what a program that the spec's process executes would have.
//!
//! A container runtime sets the spec's sets and then executes the program, by which the kernel computes them anew. A
//! guest is not executed, so the same computation is done here: root keeps the sets as they are, everyone else is left
//! with the ambient ones (`capabilities(7)`, "Transformation of capabilities during execve").

use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::{IdentityError, change};

/// The five sets of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sets {
    bounding: CapabilitySet,
    permitted: CapabilitySet,
    effective: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

/// What this process can give.
pub(super) fn available() -> Result<CapabilitySet, IdentityError> {
    Ok(capabilities(None).map_err(change("read the capabilities"))?.permitted)
}

impl Sets {
    /// For a user; no capabilities at all without a spec.
    pub(super) fn of(spec: Option<&LinuxCapabilities>, uid: u32) -> Self {
        let set = |of: fn(&LinuxCapabilities) -> &Option<Capabilities>| match spec.map(of) {
            Some(Some(names)) => parse(names),
            Some(None) | None => CapabilitySet::empty(),
        };
        let (bounding, inheritable) = (set(LinuxCapabilities::bounding), set(LinuxCapabilities::inheritable));
        let permitted = set(LinuxCapabilities::permitted);
        let ambient = set(LinuxCapabilities::ambient) & permitted & inheritable;
        let (permitted, effective) = match uid {
            0 => (permitted, set(LinuxCapabilities::effective) & permitted),
            _ => (ambient, ambient),
        };
        Self { bounding, permitted, effective, inheritable, ambient }
    }

    /// A line on what the host cannot give.
    pub(super) fn missing(&self, available: CapabilitySet) -> Option<String> {
        let missing = (self.permitted | self.inheritable | self.bounding) - available;
        let names: Vec<&str> = missing.iter_names().map(|(name, _)| name).collect();
        (!names.is_empty())
            .then(|| format!("capabilities that this node does not have itself are not given: {}", names.join(", ")))
    }

    pub(super) fn within(self, available: CapabilitySet) -> Self {
        Self {
            bounding: self.bounding & available,
            permitted: self.permitted & available,
            effective: self.effective & available,
            inheritable: self.inheritable & available,
            ambient: self.ambient & available,
        }
    }

    /// Cuts the bounding set; while the process still may.
    pub(super) fn bound(&self) -> Result<(), IdentityError> {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if self.bounding.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Past the last one that this kernel knows.
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(change("cut the bounding set")(errno)),
            }
        }
        Ok(())
    }

    /// The other four, after the ids changed.
    pub(super) fn apply(&self) -> Result<(), IdentityError> {
        let sets =
            CapabilitySets { effective: self.effective, permitted: self.permitted, inheritable: self.inheritable };
        clear_ambient_capability_set().map_err(change("clear the ambient capabilities"))?;
        set_capabilities(None, sets).map_err(change("set the capabilities"))?;
        for capability in self.ambient.iter() {
            configure_capability_in_ambient_set(capability, true).map_err(change("raise an ambient capability"))?;
        }
        Ok(())
    }
}

/// OCI's names are the kernel's without `CAP_`.
fn parse(names: &Capabilities) -> CapabilitySet {
    names.iter().filter_map(|name| CapabilitySet::from_name(&name.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder};

    fn spec(all_but_ambient: &[Capability], ambient: &[Capability]) -> LinuxCapabilities {
        let set = |names: &[Capability]| names.iter().copied().collect::<Capabilities>();
        LinuxCapabilitiesBuilder::default()
            .bounding(set(all_but_ambient))
            .permitted(set(all_but_ambient))
            .effective(set(all_but_ambient))
            .inheritable(set(all_but_ambient))
            .ambient(set(ambient))
            .build()
            .unwrap()
    }

    #[test]
    fn root_has_the_spec_s_sets() {
        let both = CapabilitySet::CHOWN | CapabilitySet::NET_BIND_SERVICE;
        let spec = spec(&[Capability::Chown, Capability::NetBindService], &[]);
        let expected = Sets {
            bounding: both,
            permitted: both,
            effective: both,
            inheritable: both,
            ambient: CapabilitySet::empty(),
        };
        assert_eq!(Sets::of(Some(&spec), 0), expected);
    }

    #[test]
    fn another_user_has_the_ambient_ones_as_after_an_execve() {
        let spec = spec(&[Capability::Chown, Capability::DacOverride], &[Capability::Chown]);
        let sets = Sets::of(Some(&spec), 1000);
        assert_eq!((sets.permitted, sets.effective), (CapabilitySet::CHOWN, CapabilitySet::CHOWN));
        assert_eq!(sets.bounding, CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE);
    }

    #[test]
    fn nobody_has_any_without_a_spec() {
        assert_eq!(Sets::of(None, 0).bounding, CapabilitySet::empty());
        assert_eq!(Sets::of(None, 0).effective, CapabilitySet::empty());
    }

    #[test]
    fn what_the_node_lacks_is_named_and_left_out() {
        let sets = Sets::of(Some(&spec(&[Capability::SysTime, Capability::Chown], &[])), 0);
        assert_eq!(
            sets.missing(CapabilitySet::CHOWN).unwrap(),
            "capabilities that this node does not have itself are not given: SYS_TIME"
        );
        assert_eq!(sets.within(CapabilitySet::CHOWN).effective, CapabilitySet::CHOWN);
        assert_eq!(sets.missing(CapabilitySet::all()), None);
    }

    #[test]
    fn every_name_of_the_spec_is_a_capability_of_the_kernel() {
        use Capability::*;
        let all = [
            AuditControl,
            AuditRead,
            AuditWrite,
            BlockSuspend,
            Bpf,
            CheckpointRestore,
            Chown,
            DacOverride,
            DacReadSearch,
            Fowner,
            Fsetid,
            IpcLock,
            IpcOwner,
            Kill,
            Lease,
            LinuxImmutable,
            MacAdmin,
            MacOverride,
            Mknod,
            NetAdmin,
            NetBindService,
            NetBroadcast,
            NetRaw,
            Perfmon,
            Setfcap,
            Setgid,
            Setpcap,
            Setuid,
            SysAdmin,
            SysBoot,
            SysChroot,
            SysModule,
            SysNice,
            SysPacct,
            SysPtrace,
            SysRawio,
            SysResource,
            SysTime,
            SysTtyConfig,
            Syslog,
            WakeAlarm,
        ];
        for capability in all {
            assert!(CapabilitySet::from_name(&capability.to_string()).is_some(), "{capability}");
        }
        assert_eq!(parse(&all.into_iter().collect()).bits().count_ones(), 41);
    }
}
