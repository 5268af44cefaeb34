//! Preview 1's error numbers.

use rustix::io::Errno;

pub(super) const SUCCESS: i32 = 0;
/// `errno` of what leads out of its directory, among other things.
pub(super) const PERM: i32 = 63;
/// wasmtime-wasi has no other for what it does not know, a read-only file system for one.
pub(super) const IO: i32 = 29;
pub(super) const ACCES: i32 = 2;
pub(super) const EXIST: i32 = 20;
pub(super) const INVAL: i32 = 28;
pub(super) const LOOP: i32 = 32;
pub(super) const NAMETOOLONG: i32 = 37;
pub(super) const NOENT: i32 = 44;
pub(super) const NOSPC: i32 = 51;
pub(super) const NOTDIR: i32 = 54;
pub(super) const ROFS: i32 = 69;

/// What the kernel said, in preview 1's numbers.
pub(super) fn errno(error: &std::io::Error) -> i32 {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => ACCES,
        Some(Errno::EXIST) => EXIST,
        Some(Errno::INVAL) => INVAL,
        Some(Errno::LOOP) => LOOP,
        Some(Errno::NAMETOOLONG) => NAMETOOLONG,
        Some(Errno::NOENT) => NOENT,
        Some(Errno::NOSPC) => NOSPC,
        Some(Errno::NOTDIR) => NOTDIR,
        Some(Errno::ROFS) => ROFS,
        Some(Errno::PERM | Errno::XDEV) => PERM,
        _ => IO,
    }
}
