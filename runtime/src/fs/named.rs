//! Paths as preview 1 names them: an open directory's number and a text in the guest's memory.

use std::fs::File;
use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as p1;
use wasmtime_wasi::p2::bindings::filesystem::types::HostDescriptor as _;
use wiggle::GuestMemory;

use super::errno::SUCCESS;
use super::resolve::Last;
use super::root::Root;

/// The first preopened directory, which is the only one.
const ROOT_FD: i32 = 3;

/// A path of the guest's: from an open directory.
pub(super) struct Named {
    dir: i32,
    /// `None` if it is not one, which the default function will find as well.
    path: Option<String>,
    last: Last,
}

impl Named {
    pub(super) fn read(memory: &[u8], dir: i32, at: i32, length: i32, last: Last) -> Self {
        Self { dir, path: text(memory, at, length), last }
    }
}

/// Paths that begin in the working directory, if one does, and the others as they are.
pub(super) fn begun(root: &Root, given: &[Named]) -> Option<Vec<(i32, String)>> {
    let begin = |named: &Named| root.begin(named.path.as_deref()?).filter(|_| named.dir == ROOT_FD);
    let begun: Vec<_> = given.iter().map(begin).collect();
    if begun.iter().all(Option::is_none) {
        return None;
    }
    let or_given = |(begun, named): (Option<String>, &Named)| Some((named.dir, begun.or_else(|| named.path.clone())?));
    begun.into_iter().zip(given).map(or_given).collect()
}

/// The paths, as the guest gave them or as they were begun, from the root.
pub(super) async fn from_root(
    wasi: &mut WasiP1Ctx,
    root: &Root,
    begun: Option<&[(i32, String)]>,
    given: &[Named],
) -> Option<Vec<(i32, String)>> {
    let mut resolved = Vec::with_capacity(given.len());
    for (at, named) in given.iter().enumerate() {
        let path = match begun {
            Some(begun) => &begun.get(at)?.1,
            None => named.path.as_ref()?,
        };
        let path = match named.dir {
            ROOT_FD => root.resolve(root.dir(), path, named.last)?,
            other => root.resolve(&*directory(wasi, other).await?, path, named.last)?,
        };
        resolved.push((ROOT_FD, path));
    }
    Some(resolved)
}

/// The open directory behind one of the guest's numbers. wasmtime-wasi keeps their table to itself, but tells what is behind each,
/// and what it opened is in the table of resources.
async fn directory(wasi: &mut WasiP1Ctx, number: i32) -> Option<Arc<File>> {
    const INODE: std::ops::Range<usize> = 8..16;
    let mut stat = [0; 64];
    let answer = p1::fd_filestat_get(wasi, &mut GuestMemory::Unshared(&mut stat), number, 0).await;
    if answer.ok()? != SUCCESS {
        return None;
    }
    let inode = u64::from_le_bytes(stat[INODE].try_into().ok()?);
    let (mut left, mut rep) = (wasi.ctx().table.iter_mut().count(), 0);
    while left > 0 {
        let handle = Resource::<Descriptor>::new_borrow(rep);
        left -= usize::from(wasi.ctx().table.get_any_mut(rep).is_ok());
        rep += 1;
        let Ok(Descriptor::Dir(dir)) = wasi.ctx().table.get(&handle) else { continue };
        let dir = Arc::clone(&dir.dir);
        if wasi.filesystem().metadata_hash(handle).await.ok()?.lower == inode {
            return Some(dir);
        }
    }
    None
}

/// A path in the guest's memory; `None` if it is not one, which the default function will find as well.
pub(super) fn text(memory: &[u8], at: i32, length: i32) -> Option<String> {
    let at = usize::try_from(at as u32).ok()?;
    let length = usize::try_from(length as u32).ok()?;
    let bytes = memory.get(at..at.checked_add(length)?)?;
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// Writes a result where the guest wants it.
pub(super) fn put(guest: &mut [u8], at: i32, bytes: &[u8]) -> wasmtime::Result<()> {
    let start = usize::try_from(at as u32)?;
    match start.checked_add(bytes.len()).and_then(|end| guest.get_mut(start..end)) {
        Some(target) => target.copy_from_slice(bytes),
        None => return Err(wasmtime::format_err!("result pointer {start:#x} is outside of the guest's memory")),
    }
    Ok(())
}

/// Where the result is in a [`Scratch`].
pub(super) const RESULT: i32 = 0;

/// A memory of our own for the second call: room for a result, then texts.
pub(super) struct Scratch {
    pub(super) bytes: Vec<u8>,
    /// Directory, pointer and length of each text.
    pub(super) texts: Vec<(i32, i32, i32)>,
    room: usize,
}

impl Scratch {
    pub(super) fn new(texts: &[(i32, String)], room: usize) -> Self {
        let mut scratch = Self { bytes: vec![0; room], texts: Vec::new(), room };
        for (dir, text) in texts {
            // Far shorter than 2 GiB: the kernel takes paths of 4 KiB.
            scratch.texts.push((*dir, scratch.bytes.len() as i32, text.len() as i32));
            scratch.bytes.extend_from_slice(text.as_bytes());
        }
        scratch
    }

    pub(super) fn result(&self) -> &[u8] {
        &self.bytes[..self.room]
    }
}
