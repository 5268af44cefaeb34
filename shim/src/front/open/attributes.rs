//! `mount_setattr(2)`, which the crates we use do not have yet.
#![expect(unsafe_code, reason = "a system call without a wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::front::outline::{Attributes, Propagation};

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME_MASK: u64 = 0x70;
const NOATIME: u64 = 0x10;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets attributes and propagation of a detached mount.
pub(super) fn set(mount: BorrowedFd<'_>, attributes: Attributes, propagation: Propagation) -> io::Result<()> {
    let flags = flags(attributes);
    let clear = if attributes.noatime { ATIME_MASK } else { 0 };
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    // Propagation and nodev hold for the mounts below too; the rest only if it was asked for.
    let everywhere = MountAttr { set: NODEV, propagation, ..MountAttr::default() };
    call(mount, libc::AT_RECURSIVE, &everywhere)?;
    let depth = if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    call(mount, depth, &MountAttr { set: flags, clear, ..MountAttr::default() })
}

fn flags(attributes: Attributes) -> u64 {
    let table = [
        (attributes.read_only, RDONLY),
        (attributes.nosuid, NOSUID),
        (attributes.noexec, NOEXEC),
        (attributes.noatime, NOATIME),
    ];
    table.iter().filter(|(wanted, _)| *wanted).fold(NODEV, |flags, (_, flag)| flags | flag)
}

fn call(mount: BorrowedFd<'_>, depth: i32, attr: &MountAttr) -> io::Result<()> {
    // SAFETY: the path is a NUL-terminated constant, `attr` is a live `struct mount_attr` of the size that is passed, and
    // the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | depth,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
