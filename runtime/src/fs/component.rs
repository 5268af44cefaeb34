//! Path functions of `wasi:filesystem/types` (preview 2).

use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, ErrorCode, HostDescriptor as _, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};

use super::resolve::Last;
use super::root::Root;

/// The interfaces, in the one version that wasmtime-wasi defines.
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// A store's state with a root directory.
pub(crate) trait Rooted: WasiFilesystemView + 'static {
    /// The guest's `/`.
    fn root(&self) -> Root;
}

/// Gives the guest its root, and replaces the path functions of `linker`.
pub(crate) fn shadow<T: Rooted>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    // Opened when it is asked for: most requests of an http guest never do.
    linker.instance(PREOPENS)?.func_wrap("get-directories", |mut store, (): ()| {
        let root = store.data().root().descriptor()?;
        let root = store.data_mut().filesystem().table.push(root)?;
        Ok((vec![(root, "/".to_owned())],))
    })?;
    let mut types = linker.instance(TYPES)?;

    /// `$call` once with what the guest gave, begun where it begins, and once more from the root if that was refused as an escape.
    macro_rules! one_path {
        ($name:literal, ($($argument:ident: $kind:ty),*), $last:expr, |$files:ident, $dir:ident, $path:ident| $call:expr, $result:ty) => {
            types.func_wrap_async(
                concat!("[method]descriptor.", $name),
                |mut store, ($dir, $($argument),*): (Resource<Descriptor>, $($kind),*)| {
                    Box::new(async move {
                        let root = store.data().root();
                        let mut $files = store.data_mut().filesystem();
                        let given = begun($files.table, &root, &$dir, $path)?;
                        let first: FsResult<$result> = {
                            let ($dir, $path) = (Resource::new_borrow($dir.rep()), given.clone());
                            $call.await
                        };
                        if !is_escape(&first) {
                            return answer(named(first, $files.table, &root, &$dir, &given, $last)?);
                        }
                        let Some((at, resolved)) = again($files.table, &root, &$dir, &given, $last)? else {
                            return answer(first);
                        };
                        let second: FsResult<$result> = {
                            let ($dir, $path) = (Resource::new_borrow(at.rep()), resolved);
                            $call.await
                        };
                        $files.table.delete(at)?;
                        answer(named(second, $files.table, &root, &$dir, &given, $last)?)
                    })
                },
            )?;
        };
    }

    one_path!("create-directory-at", (path: String), Last::Keep,
        |files, dir, path| files.create_directory_at(dir, path), ());
    one_path!("stat-at", (flags: PathFlags, path: String), follow(flags),
        |files, dir, path| files.stat_at(dir, flags, path), DescriptorStat);
    one_path!("set-times-at", (flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp),
        follow(flags), |files, dir, path| files.set_times_at(dir, flags, path, accessed, modified), ());
    one_path!("open-at", (flags: PathFlags, path: String, how: OpenFlags, mode: DescriptorFlags), follow(flags),
        |files, dir, path| files.open_at(dir, flags, path, how, mode), Resource<Descriptor>);
    one_path!("remove-directory-at", (path: String), Last::Keep,
        |files, dir, path| files.remove_directory_at(dir, path), ());
    one_path!("unlink-file-at", (path: String), Last::Keep, |files, dir, path| files.unlink_file_at(dir, path), ());
    one_path!("metadata-hash-at", (flags: PathFlags, path: String), follow(flags),
        |files, dir, path| files.metadata_hash_at(dir, flags, path), MetadataHashValue);

    types.func_wrap_async(
        "[method]descriptor.readlink-at",
        |mut store, (dir, path): (Resource<Descriptor>, String)| {
            Box::new(async move {
                let root = store.data().root();
                let mut files = store.data_mut().filesystem();
                let path = begun(files.table, &root, &dir, path)?;
                let first = files.readlink_at(Resource::new_borrow(dir.rep()), path.clone()).await;
                if !is_escape(&first) {
                    return answer(first);
                }
                let Some(resolved) = resolved(files.table, &root, &dir, &path, Last::Keep)? else {
                    return answer(first);
                };
                answer(root.read_link(&resolved).map_err(|error| ErrorCode::from(error).into()))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |mut store, (dir, text, path): (Resource<Descriptor>, String, String)| {
            Box::new(async move {
                let root = store.data().root();
                let mut files = store.data_mut().filesystem();
                let path = begun(files.table, &root, &dir, path)?;
                let first = files.symlink_at(Resource::new_borrow(dir.rep()), text.clone(), path.clone()).await;
                if !is_escape(&first) {
                    return answer(named(first, files.table, &root, &dir, &path, Last::Keep)?);
                }
                let Some(resolved) = resolved(files.table, &root, &dir, &path, Last::Keep)? else {
                    return answer(first);
                };
                answer(root.symlink(&text, &resolved).map_err(|error| ErrorCode::from(error).into()))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |mut store,
         (old, flags, from, new, to): (Resource<Descriptor>, PathFlags, String, Resource<Descriptor>, String)| {
            Box::new(async move {
                let root = store.data().root();
                let mut files = store.data_mut().filesystem();
                let (from, to) = (begun(files.table, &root, &old, from)?, begun(files.table, &root, &new, to)?);
                let (old_dir, new_dir) = (Resource::new_borrow(old.rep()), Resource::new_borrow(new.rep()));
                let first = files.link_at(old_dir, flags, from.clone(), new_dir, to.clone()).await;
                if !is_escape(&first) {
                    return answer(named(first, files.table, &root, &new, &to, Last::Keep)?);
                }
                let Some((from, to)) = both(files.table, &root, (&old, &from), (&new, &to))? else {
                    return answer(first);
                };
                let second = files
                    .link_at(Resource::new_borrow(from.0.rep()), flags, from.1, Resource::new_borrow(to.0.rep()), to.1)
                    .await;
                files.table.delete(from.0)?;
                files.table.delete(to.0)?;
                answer(second)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.rename-at",
        |mut store, (old, from, new, to): (Resource<Descriptor>, String, Resource<Descriptor>, String)| {
            Box::new(async move {
                let root = store.data().root();
                let mut files = store.data_mut().filesystem();
                let (from, to) = (begun(files.table, &root, &old, from)?, begun(files.table, &root, &new, to)?);
                let (old_dir, new_dir) = (Resource::new_borrow(old.rep()), Resource::new_borrow(new.rep()));
                let first = files.rename_at(old_dir, from.clone(), new_dir, to.clone()).await;
                if !is_escape(&first) {
                    return answer(named(first, files.table, &root, &new, &to, Last::Keep)?);
                }
                let Some((from, to)) = both(files.table, &root, (&old, &from), (&new, &to))? else {
                    return answer(first);
                };
                let second = files
                    .rename_at(Resource::new_borrow(from.0.rep()), from.1, Resource::new_borrow(to.0.rep()), to.1)
                    .await;
                files.table.delete(from.0)?;
                files.table.delete(to.0)?;
                answer(second)
            })
        },
    )?;
    Ok(())
}

fn follow(flags: PathFlags) -> Last {
    if flags.contains(PathFlags::SYMLINK_FOLLOW) { Last::Follow } else { Last::Keep }
}

/// A path as the guest means it: one from the root may be one from its working directory.
fn begun(table: &ResourceTable, root: &Root, dir: &Resource<Descriptor>, path: String) -> wasmtime::Result<String> {
    if !root.has_work() {
        return Ok(path);
    }
    let is_root = matches!(table.get(dir)?, Descriptor::Dir(dir) if root.is(&dir.dir));
    Ok(if is_root { root.begin(&path).unwrap_or(path) } else { path })
}

/// wasmtime-wasi has no name for what the kernel says of a read-only file system, and takes it for an IO error.
fn named<T>(
    result: FsResult<T>,
    table: &ResourceTable,
    root: &Root,
    dir: &Resource<Descriptor>,
    path: &str,
    last: Last,
) -> wasmtime::Result<FsResult<T>> {
    if result.as_ref().err().and_then(FsError::downcast_ref) != Some(&ErrorCode::Io) {
        return Ok(result);
    }
    let is_read_only = resolved(table, root, dir, path, last)?.is_some_and(|resolved| root.is_read_only(&resolved));
    Ok(if is_read_only { Err(ErrorCode::ReadOnly.into()) } else { result })
}

/// wasmtime-wasi says "not permitted" for a path that leads out of its directory (and for other things: then the second
/// try says so again).
fn is_escape<T>(result: &FsResult<T>) -> bool {
    result.as_ref().err().and_then(FsError::downcast_ref) == Some(&ErrorCode::NotPermitted)
}

/// As the guest's function returns it; an error that is not the guest's is a trap.
fn answer<T>(result: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

type At = (Resource<Descriptor>, String);

/// The root directory as a handle, and the path from it; `None` if there is no better way to say the path.
fn again(
    table: &mut ResourceTable,
    root: &Root,
    dir: &Resource<Descriptor>,
    path: &str,
    last: Last,
) -> wasmtime::Result<Option<At>> {
    let Some(resolved) = resolved(table, root, dir, path, last)? else { return Ok(None) };
    Ok(Some((table.push(root.descriptor()?)?, resolved)))
}

fn both(
    table: &mut ResourceTable,
    root: &Root,
    from: (&Resource<Descriptor>, &str),
    to: (&Resource<Descriptor>, &str),
) -> wasmtime::Result<Option<(At, At)>> {
    let Some(first) = again(table, root, from.0, from.1, Last::Keep)? else { return Ok(None) };
    match again(table, root, to.0, to.1, Last::Keep)? {
        Some(second) => Ok(Some((first, second))),
        None => {
            table.delete(first.0)?;
            Ok(None)
        }
    }
}

fn resolved(
    table: &ResourceTable,
    root: &Root,
    dir: &Resource<Descriptor>,
    path: &str,
    last: Last,
) -> wasmtime::Result<Option<String>> {
    let Descriptor::Dir(dir) = table.get(dir)? else { return Ok(None) };
    Ok(root.resolve(&dir.dir, path, last))
}
