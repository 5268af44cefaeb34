//! Disks of every size between nothing and enough: a pull says that the disk is full, and all that was there stays.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};
use samara_images::{
    Artifact, Content, ImageConfig, ImageStore, Import, PullCause, Puller, PullerConfig, Reference, RootfsBuilder,
    UnpackError,
};

use crate::module;

/// A small disk.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of_pages(pages: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={}", pages * 4096)).unwrap();
        rustix::mount::mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .unwrap();
        Self(directory)
    }

    fn grow(&self, pages: usize) {
        let options = std::ffi::CString::new(format!("size={}", pages * 4096)).unwrap();
        rustix::mount::mount_remount(self.0.path(), MountFlags::empty(), options.as_c_str()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

const PAGES: usize = 20;

fn root() -> Artifact {
    let config = ImageConfig { entrypoint: vec!["/app".to_owned()], ..ImageConfig::default() };
    let root = RootfsBuilder::new().config(config).bytes("/app", module(4 * 4096), 0o755).unwrap();
    root.bytes("/etc/a", "x", 0o644).unwrap().bytes("/etc/b", "y", 0o644).unwrap().build().unwrap()
}

fn is_full(cause: &PullCause) -> bool {
    if let PullCause::Layer { error: UnpackError::Write { cause, .. }, .. } = cause {
        return cause.kind() == std::io::ErrorKind::StorageFull;
    }
    matches!(cause, PullCause::Store(error) if error.is_full())
}

async fn import(store: &ImageStore, layout: &Path, name: &Reference) -> Result<(), Box<samara_images::PullError>> {
    let puller = Puller::new(store.clone(), PullerConfig::default());
    match puller.import(Import::Directory(layout.to_owned()), Some(name), &()).await {
        Ok(_) => Ok(()),
        Err(samara_images::ImportError::Image(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_lost() {
    let layouts = tempfile::tempdir().unwrap();
    let (old_layout, new_layout) = (layouts.path().join("old"), layouts.path().join("new"));
    let wasm = layouts.path().join("old.wasm");
    std::fs::write(&wasm, module(1000)).unwrap();
    Artifact::wasm(&wasm).unwrap().write_layout(&old_layout).unwrap();
    root().write_layout(&new_layout).unwrap();
    let (old, new) = (Reference::parse("r.test/old:1").unwrap(), Reference::parse("r.test/new:1").unwrap());
    let (mut refused, mut taken) = (0, 0);
    for pages in 0..PAGES {
        // Enough for the old image, which is there already.
        let disk = Disk::of_pages(64);
        let store = ImageStore::open(&disk.0.path().join("images")).unwrap();
        import(&store, &old_layout, &old).await.unwrap();
        let used = rustix::fs::statvfs(disk.0.path()).unwrap();
        let used = usize::try_from(used.f_blocks - used.f_bfree).unwrap();
        disk.grow(used + pages);
        match import(&store, &new_layout, &new).await {
            Ok(()) => taken += 1,
            Err(error) => {
                refused += 1;
                assert!(is_full(&error.cause), "{pages} pages: {error}");
                assert!(error.to_string().to_lowercase().contains("no space left"), "{error}");
                assert_eq!(store.get(&new).unwrap(), None, "{pages} pages");
            }
        }
        let kept = store.get(&old).unwrap().unwrap();
        let Content::Module { path, .. } = &kept.content else { panic!("{kept:?}") };
        assert_eq!(std::fs::read(path).unwrap(), module(1000), "{pages} pages");
        // Room comes, and it goes on.
        disk.grow(256);
        import(&store, &new_layout, &new).await.unwrap();
        let image = store.get(&new).unwrap().unwrap();
        for (path, length) in [("/app", 4 * 4096), ("/etc/a", 1), ("/etc/b", 1)] {
            let file = store.open_in_image(&image, path).unwrap().unwrap();
            assert_eq!(file.metadata().unwrap().len(), length, "{pages} pages: {path}");
        }
    }
    assert!(refused > 5 && taken > 2, "{refused} refused, {taken} taken: the sizes no longer fit the test");
}
