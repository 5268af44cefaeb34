//! Path functions of `wasi_snapshot_preview1`.
//!
//! Only the preopened root (file 3) is resolved again: that is where wasi-libc begins every path it is given as text.

use wasmtime::{AsContextMut as _, Caller, Extern, Linker};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as p1, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::resolve::Last;
use super::root::Root;

const MODULE: &str = "wasi_snapshot_preview1";
/// The first preopened directory, which is the only one.
const ROOT_FD: i32 = 3;
/// `errno` of what leads out of its directory, among other things.
const PERM: i32 = 63;
const EXIST: i32 = 20;
const SUCCESS: i32 = 0;
const SYMLINK_FOLLOW: i32 = 1;

/// A store's state with a root directory.
pub(crate) trait Rooted: Send + 'static {
    /// The guest's `/`.
    fn root(&self) -> Root;
    /// The context that the default functions work on.
    fn wasi(&mut self) -> &mut WasiP1Ctx;
}

/// Replaces the path functions of `linker`.
pub(crate) fn shadow<T: Rooted>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);

    /// `$call` once on the guest's memory, and once more on a memory that holds the resolved paths and has room for the
    /// result, which is then copied to the guest's own.
    macro_rules! shadow {
        ($name:literal, ($($argument:ident: $kind:ty),*), [$(($dir:ident, $path:ident, $length:ident, $last:expr)),+],
         [$($out:ident; $room:literal)?], |$wasi:ident, $memory:ident| $call:expr) => {
            linker.func_wrap_async(MODULE, $name, |mut caller: Caller<'_, T>, ($($argument),*,): ($($kind),*,)| {
                Box::new(async move {
                    let root = caller.data().root();
                    let (guest, state) = memory(&mut caller)?;
                    let given = [$(($dir, text(guest, $path, $length), $last)),+];
                    let first: i32 = {
                        let ($wasi, $memory) = (state.wasi(), &mut GuestMemory::Unshared(&mut *guest));
                        $call.await?
                    };
                    let resolve = |(dir, path, last): (i32, Option<String>, Last)| {
                        (dir == ROOT_FD).then(|| root.resolve(root.dir(), &path?, last)).flatten()
                    };
                    if first != PERM {
                        return Ok(first);
                    }
                    let Some(resolved) = given.into_iter().map(resolve).collect::<Option<Vec<_>>>() else {
                        return Ok(first);
                    };
                    let mut scratch = Scratch::new(&resolved, 0 $(+ $room)?);
                    let results: &[i32] = &[$($out)?];
                    let second: i32 = {
                        let mut texts = scratch.texts.iter().copied();
                        $(let ($path, $length) = texts.next().unwrap_or_default();)+
                        $(let $out = RESULT;)?
                        let ($wasi, $memory) = (state.wasi(), &mut GuestMemory::Unshared(&mut scratch.bytes));
                        $call.await?
                    };
                    if second == SUCCESS {
                        for at in results {
                            put(guest, *at, scratch.result())?;
                        }
                    }
                    Ok(second)
                })
            })?;
        };
    }

    shadow!("path_create_directory", (dir: i32, path: i32, length: i32), [(dir, path, length, Last::Keep)], [],
        |wasi, memory| p1::path_create_directory(wasi, memory, dir, path, length));
    shadow!("path_remove_directory", (dir: i32, path: i32, length: i32), [(dir, path, length, Last::Keep)], [],
        |wasi, memory| p1::path_remove_directory(wasi, memory, dir, path, length));
    shadow!("path_unlink_file", (dir: i32, path: i32, length: i32), [(dir, path, length, Last::Keep)], [],
        |wasi, memory| p1::path_unlink_file(wasi, memory, dir, path, length));
    shadow!("path_filestat_get", (dir: i32, flags: i32, path: i32, length: i32, out: i32),
        [(dir, path, length, follow(flags))], [out; 64],
        |wasi, memory| p1::path_filestat_get(wasi, memory, dir, flags, path, length, out));
    shadow!("path_filestat_set_times",
        (dir: i32, flags: i32, path: i32, length: i32, accessed: i64, modified: i64, which: i32),
        [(dir, path, length, follow(flags))], [],
        |wasi, memory| p1::path_filestat_set_times(wasi, memory, dir, flags, path, length, accessed, modified, which));
    shadow!("path_open",
        (dir: i32, flags: i32, path: i32, length: i32, how: i32, rights: i64, inheriting: i64, mode: i32, out: i32),
        [(dir, path, length, follow(flags))], [out; 4],
        |wasi, memory| p1::path_open(wasi, memory, dir, flags, path, length, how, rights, inheriting, mode, out));
    shadow!("path_link",
        (old: i32, flags: i32, from: i32, from_length: i32, new: i32, to: i32, to_length: i32),
        [(old, from, from_length, Last::Keep), (new, to, to_length, Last::Keep)], [],
        |wasi, memory| p1::path_link(wasi, memory, old, flags, from, from_length, new, to, to_length));
    shadow!("path_rename",
        (old: i32, from: i32, from_length: i32, new: i32, to: i32, to_length: i32),
        [(old, from, from_length, Last::Keep), (new, to, to_length, Last::Keep)], [],
        |wasi, memory| p1::path_rename(wasi, memory, old, from, from_length, new, to, to_length));
    shadow_links(linker)
}

/// Symlinks whose text is absolute: the default functions neither make nor read them.
fn shadow_links<T: Rooted>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "path_readlink",
        |mut caller: Caller<'_, T>, (dir, path, length, buffer, room, out): (i32, i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let root = caller.data().root();
                let (guest, state) = memory(&mut caller)?;
                let given = text(guest, path, length);
                let memory = &mut GuestMemory::Unshared(&mut *guest);
                let first = p1::path_readlink(state.wasi(), memory, dir, path, length, buffer, room, out).await?;
                if first != PERM || dir != ROOT_FD {
                    return Ok(first);
                }
                let Some(resolved) = given.and_then(|given| root.resolve(root.dir(), &given, Last::Keep)) else {
                    return Ok(first);
                };
                let Ok(target) = root.read_link(&resolved) else { return Ok(first) };
                let length = target.len().min(room as u32 as usize);
                put(guest, buffer, &target.as_bytes()[..length])?;
                put(guest, out, &(length as u32).to_le_bytes())?;
                Ok(SUCCESS)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_symlink",
        |mut caller: Caller<'_, T>, (target, target_length, dir, path, length): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let root = caller.data().root();
                let (guest, state) = memory(&mut caller)?;
                let (text, given) = (text(guest, target, target_length), text(guest, path, length));
                let memory = &mut GuestMemory::Unshared(&mut *guest);
                let first = p1::path_symlink(state.wasi(), memory, target, target_length, dir, path, length).await?;
                let (PERM, ROOT_FD, Some(text), Some(given)) = (first, dir, text, given) else { return Ok(first) };
                let Some(resolved) = root.resolve(root.dir(), &given, Last::Keep) else { return Ok(first) };
                Ok(match root.symlink(&text, &resolved) {
                    Ok(()) => SUCCESS,
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => EXIST,
                    Err(_) => first,
                })
            })
        },
    )?;
    Ok(())
}

fn follow(flags: i32) -> Last {
    if flags & SYMLINK_FOLLOW != 0 { Last::Follow } else { Last::Keep }
}

/// The guest's memory and state, ready for a call of a default function.
fn memory<'a, T: Rooted>(caller: &'a mut Caller<'_, T>) -> wasmtime::Result<(&'a mut [u8], &'a mut T)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::format_err!("missing required memory export"));
    };
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (bytes, state) = memory.data_and_store_mut(caller);
    state.wasi().set_hostcall_fuel(fuel);
    Ok((bytes, state))
}

/// A path in the guest's memory; `None` if it is not one, which the default function will find as well.
fn text(memory: &[u8], at: i32, length: i32) -> Option<String> {
    let at = usize::try_from(at as u32).ok()?;
    let length = usize::try_from(length as u32).ok()?;
    let bytes = memory.get(at..at.checked_add(length)?)?;
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// Writes a result where the guest wants it.
fn put(guest: &mut [u8], at: i32, bytes: &[u8]) -> wasmtime::Result<()> {
    let start = usize::try_from(at as u32)?;
    match start.checked_add(bytes.len()).and_then(|end| guest.get_mut(start..end)) {
        Some(target) => target.copy_from_slice(bytes),
        None => return Err(wasmtime::format_err!("result pointer {start:#x} is outside of the guest's memory")),
    }
    Ok(())
}

/// Where the result is in a [`Scratch`].
const RESULT: i32 = 0;

/// A memory of our own for the second call: room for a result, then texts.
struct Scratch {
    bytes: Vec<u8>,
    /// Pointer and length of each text.
    texts: Vec<(i32, i32)>,
    room: usize,
}

impl Scratch {
    fn new(texts: &[String], room: usize) -> Self {
        let mut scratch = Self { bytes: vec![0; room], texts: Vec::new(), room };
        for text in texts {
            // Far shorter than 2 GiB: the kernel takes paths of 4 KiB.
            scratch.texts.push((scratch.bytes.len() as i32, text.len() as i32));
            scratch.bytes.extend_from_slice(text.as_bytes());
        }
        scratch
    }

    fn result(&self) -> &[u8] {
        &self.bytes[..self.room]
    }
}
