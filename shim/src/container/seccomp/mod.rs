//! Seccomp: Samara's own filter, compiled once in the zygote, and the spec's profile stacked on it.
//!
//! The kernel runs every filter and the strictest answer holds; of two errnos the later filter's. So a filter is a stack
//! of programs, applied in order; the profile comes after Samara's own, for it may forbid what applying a filter takes.

use seccompiler::{BackendError, BpfProgram, SeccompAction};

mod names;
mod own;
mod profile;
mod tree;

pub(super) use profile::ProfileError;
use tree::compile;

/// Compiled programs.
#[derive(Debug)]
pub(crate) struct Filter(Vec<BpfProgram>);

/// A filter could not be compiled or applied.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("compile a seccomp filter")]
    Compile(#[from] BackendError),
    #[error("apply a seccomp filter")]
    Apply(#[from] seccompiler::Error),
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl Filter {
    /// Samara's own: one program, so that it is applied once.
    pub(crate) fn own() -> Result<Self, FilterError> {
        let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        Ok(Self(vec![compile(&own::table()?, &eperm)?]))
    }

    /// Filters the calling thread and those it starts from now on, for ever.
    pub(super) fn apply(&self) -> Result<(), FilterError> {
        for program in &self.0 {
            seccompiler::apply_filter(program)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_filter_compiles_and_fits_the_kernel_s_limit() {
        for program in Filter::own().unwrap().0 {
            assert!(program.len() < 4096, "{} instructions", program.len());
        }
    }

    #[test]
    fn what_gives_a_guest_a_foothold_is_in_no_table() {
        let listed: Vec<i64> = own::ALLOWED
            .iter()
            .copied()
            .flatten()
            .chain(own::CHECKED.iter().map(|(number, _)| number))
            .copied()
            .collect();
        let dangerous = [
            "execve",
            "execveat",
            "fork",
            "vfork",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "unshare",
            "setns",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsmount",
            "mount_setattr",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "init_module",
            "finit_module",
            "kexec_load",
            "kill",
            "tkill",
            "setuid",
            "setresuid",
            "capset",
            "pkey_mprotect",
            "memfd_secret",
            "open_by_handle_at",
            "personality",
            "pidfd_getfd",
            "pidfd_send_signal",
            "shmat",
            "remap_file_pages",
            "uselib",
            "mknodat",
        ];
        for name in dangerous {
            let number = names::number(name).unwrap_or_else(|| panic!("{name} has no number"));
            assert!(!listed.contains(&number), "{name}");
        }
    }

    #[test]
    fn nothing_is_listed_twice() {
        let mut seen = std::collections::BTreeSet::new();
        let checked = own::CHECKED.iter().map(|(number, _)| number);
        for number in own::ALLOWED.iter().copied().flatten().chain(checked).chain(own::ABSENT) {
            assert!(seen.insert(number), "call {number}");
        }
    }
}
