//! `openat`, which the standard library keeps to itself.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};

unsafe extern "C" {
    fn openat(dir: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
}

const O_RDONLY: c_int = 0x0400_0000;

/// Text of the file at `path` from the directory `dir`, which is opened first.
pub fn read(dir: &str, path: &str) -> io::Result<String> {
    let dir = File::open(dir)?;
    let path = CString::new(path)?;
    // SAFETY: the text ends with a 0, and outlives the call.
    let file = unsafe { openat(dir.as_raw_fd(), path.as_ptr(), O_RDONLY) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(file) };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}
