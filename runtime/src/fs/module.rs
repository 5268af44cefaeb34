//! Path functions of `wasi_snapshot_preview1`.
//!
//! wasi-libc begins every path that it is given as text at the preopened root, which is file 3.

use wasmtime::{AsContextMut as _, Caller, Extern, Linker};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as p1, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::errno::{IO, PERM, ROFS, SUCCESS, errno};
use super::named::{Named, RESULT, Scratch, begun, from_root, put, text};
use super::resolve::Last;
use super::root::Root;

const MODULE: &str = "wasi_snapshot_preview1";
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

    /// `$call` on the guest's memory, or, where its paths mean others, on a memory that holds those and has room for the result,
    /// which is then copied to the guest's own.
    macro_rules! shadow {
        ($name:literal, ($($argument:ident: $kind:ty),*), [$(($dir:ident, $path:ident, $length:ident, $last:expr)),+],
         [$($out:ident; $room:literal)?], |$wasi:ident, $memory:ident| $call:expr) => {
            linker.func_wrap_async(MODULE, $name, |mut caller: Caller<'_, T>, ($($argument),*,): ($($kind),*,)| {
                Box::new(async move {
                    let root = caller.data().root();
                    let (guest, state) = memory(&mut caller)?;
                    let given = [$(Named::read(guest, $dir, $path, $length, $last)),+];
                    let results: &[i32] = &[$($out)?];
                    let mut meant = begun(&root, &given);
                    let mut again = true;
                    loop {
                        let answer: i32 = match &meant {
                            None => {
                                let ($wasi, $memory) = (state.wasi(), &mut GuestMemory::Unshared(&mut *guest));
                                $call.await?
                            }
                            Some(meant) => {
                                let mut scratch = Scratch::new(meant, 0 $(+ $room)?);
                                let answer: i32 = {
                                    let mut texts = scratch.texts.iter().copied();
                                    $(let ($dir, $path, $length) = texts.next().unwrap_or_default();)+
                                    $(let $out = RESULT;)?
                                    let memory = &mut GuestMemory::Unshared(&mut scratch.bytes);
                                    let ($wasi, $memory) = (state.wasi(), memory);
                                    $call.await?
                                };
                                if answer == SUCCESS {
                                    for at in results {
                                        put(guest, *at, scratch.result())?;
                                    }
                                }
                                answer
                            }
                        };
                        if !matches!(answer, PERM | IO) || !again {
                            return Ok(answer);
                        }
                        let Some(resolved) = from_root(state.wasi(), &root, meant.as_deref(), &given).await else {
                            return Ok(answer);
                        };
                        if answer == IO {
                            let is_read_only = resolved.last().is_some_and(|(_, path)| root.is_read_only(path));
                            return Ok(if is_read_only { ROFS } else { IO });
                        }
                        (meant, again) = (Some(resolved), false);
                    }
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
                let given = [Named::read(guest, dir, path, length, Last::Keep)];
                let meant = begun(&root, &given);
                if meant.is_none() {
                    let memory = &mut GuestMemory::Unshared(&mut *guest);
                    let first = p1::path_readlink(state.wasi(), memory, dir, path, length, buffer, room, out).await?;
                    if first != PERM {
                        return Ok(first);
                    }
                }
                let Some(resolved) = from_root(state.wasi(), &root, meant.as_deref(), &given).await else {
                    return Ok(PERM);
                };
                let target = match root.read_link(&resolved[0].1) {
                    Ok(target) => target,
                    Err(error) => return Ok(errno(&error)),
                };
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
                let (text, given) =
                    (text(guest, target, target_length), Named::read(guest, dir, path, length, Last::Keep));
                let given = [given];
                let meant = begun(&root, &given);
                if meant.is_none() {
                    let memory = &mut GuestMemory::Unshared(&mut *guest);
                    let first =
                        p1::path_symlink(state.wasi(), memory, target, target_length, dir, path, length).await?;
                    if !matches!(first, PERM | IO) {
                        return Ok(first);
                    }
                }
                let resolved = from_root(state.wasi(), &root, meant.as_deref(), &given).await;
                let (Some(text), Some(resolved)) = (text, resolved) else { return Ok(PERM) };
                Ok(root.symlink(&text, &resolved[0].1).map_or_else(|error| errno(&error), |()| SUCCESS))
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
