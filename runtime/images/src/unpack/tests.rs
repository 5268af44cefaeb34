//! Archives as they should not be, and layers against a model of what they mean.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// An archive, entry by entry, with whatever names.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn entry(mut self, kind: tar::EntryType, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(2000);
        header.set_mtime(86_400);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, path: &str, content: &str) -> Self {
        self.entry(tar::EntryType::Regular, path, "", 0o644, content.as_bytes())
    }

    pub(super) fn directory(self, path: &str) -> Self {
        self.entry(tar::EntryType::Directory, path, "", 0o755, b"")
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, path, target, 0o777, b"")
    }

    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Link, path, target, 0o644, b"")
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

struct Outcome {
    directory: TempDir,
    result: Result<Unpacked, UnpackError>,
}

impl Outcome {
    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("layer").join(path)
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    fn refusal(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }

    /// Nothing but the layer's own directory was touched.
    fn stayed_inside(&self) -> bool {
        fs::read_dir(self.directory.path()).unwrap().count() == 1
    }
}

fn unpacked_as(packed: &[u8], plain: &[u8], limits: UnpackLimits) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let layer = directory.path().join("layer");
    fs::create_dir(&layer).unwrap();
    let mut archive = tempfile::tempfile().unwrap();
    archive.write_all(packed).unwrap();
    archive.rewind().unwrap();
    let into = File::open(&layer).unwrap().into();
    let result = unpack(archive, into, &Digest::of(plain), limits, &Arc::default());
    Outcome { directory, result }
}

fn unpacked(archive: Tar) -> Outcome {
    let bytes = archive.done();
    unpacked_as(&bytes, &bytes, UnpackLimits::default())
}

#[test]
fn files_keep_content_mode_owner_and_time_but_not_setuid() {
    let outcome = unpacked(
        Tar::default()
            .entry(tar::EntryType::Directory, "./", "", 0o711, b"")
            .entry(tar::EntryType::Regular, "usr/bin/su", "", 0o6755, b"su")
            .symlink("bin", "/usr/bin")
            .hard_link("usr/bin/same", "/usr/bin/su"),
    );
    assert_eq!(outcome.result.as_ref().unwrap().entries, 4);
    let about = fs::metadata(outcome.path("usr/bin/su")).unwrap();
    assert_eq!(about.permissions().mode() & 0o7777, 0o755);
    assert_eq!((about.uid(), about.gid(), about.mtime(), about.nlink()), (1000, 2000, 86_400, 2));
    assert_eq!(outcome.text("usr/bin/same").as_deref(), Some("su"));
    assert_eq!(fs::read_link(outcome.path("bin")).unwrap(), Path::new("/usr/bin"));
    assert_eq!(fs::metadata(outcome.path("")).unwrap().permissions().mode() & 0o7777, 0o711);
    assert_eq!(fs::metadata(outcome.path("usr")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn every_packing_unpacks_the_same_whatever_it_is_called() {
    let plain = Tar::default().file("a", "content").done();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain[..700]).unwrap();
    let mut members = gzip.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain[700..]).unwrap();
    members.extend(gzip.finish().unwrap());
    let zstd = zstd::encode_all(plain.as_slice(), 3).unwrap();
    for packed in [&plain, &members, &zstd] {
        let outcome = unpacked_as(packed, &plain, UnpackLimits::default());
        assert_eq!(outcome.text("a").as_deref(), Some("content"), "{:?}", outcome.result);
    }
}

#[test]
fn paths_out_of_the_layer_are_refused_and_leave_no_trace() {
    let escapes = [
        Tar::default().file("../escape", "x"),
        Tar::default().file("a/../../escape", "x"),
        Tar::default().directory("a").file("a/b/../../../escape", "x"),
        Tar::default().hard_link("a", "../escape"),
        Tar::default().file("a/.wh...", "x"),
    ];
    for archive in escapes {
        let outcome = unpacked(archive);
        assert!(matches!(outcome.result, Err(UnpackError::Entry { .. })), "{:?}", outcome.result);
        assert!(outcome.stayed_inside());
    }
}

#[test]
fn links_lead_nowhere_but_inside() {
    let outcome = unpacked(
        Tar::default()
            .symlink("out", "../../../../../../tmp")
            .file("out/one", "1")
            .symlink("root", "/")
            .file("root/two", "2")
            .symlink("up", "..")
            .file("up/up/three", "3"),
    );
    outcome.result.as_ref().unwrap();
    assert!(outcome.stayed_inside());
    assert_eq!(outcome.text("tmp/one").as_deref(), Some("1"));
    assert_eq!(outcome.text("two").as_deref(), Some("2"));
    assert_eq!(outcome.text("three").as_deref(), Some("3"));
}

#[test]
fn a_link_that_is_replaced_does_not_take_what_comes_after() {
    let outcome = unpacked(
        Tar::default()
            .symlink("d", "/elsewhere")
            .file("d/one", "1")
            .directory("d")
            .file("d/two", "2")
            .file("elsewhere/three", "3"),
    );
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.text("elsewhere/one").as_deref(), Some("1"));
    assert_eq!(outcome.text("d/two").as_deref(), Some("2"));
    assert!(!outcome.path("d/one").exists());
}

#[test]
fn links_in_a_circle_are_refused() {
    let outcome = unpacked(Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "x"));
    assert!(matches!(outcome.result, Err(UnpackError::Write { .. })), "{:?}", outcome.result);
    assert!(outcome.refusal().contains("a/x"));
}

#[test]
fn devices_and_fifos_are_left_out() {
    let outcome = unpacked(
        Tar::default()
            .entry(tar::EntryType::Char, "dev/null", "", 0o666, b"")
            .entry(tar::EntryType::Block, "dev/sda", "", 0o666, b"")
            .entry(tar::EntryType::Fifo, "dev/fifo", "", 0o666, b"")
            .file("after", "x"),
    );
    assert_eq!(outcome.result.as_ref().unwrap().skipped, 3);
    assert!(!outcome.path("dev").exists());
    assert_eq!(outcome.text("after").as_deref(), Some("x"));
}

#[test]
fn whiteouts_are_written_in_overlays_form() {
    let outcome = unpacked(
        Tar::default()
            .file("a/.wh.gone", "")
            .file("b/.wh..wh..opq", "")
            .file("b/new", "x")
            .file("c/mine", "x")
            .file(".wh.c", "")
            .file(".wh.d", "")
            .file("d/mine", "x")
            .file(".wh..wh.plnk", ""),
    );
    outcome.result.as_ref().unwrap();
    let about = fs::symlink_metadata(outcome.path("a/gone")).unwrap();
    assert!(about.file_type().is_char_device() && about.rdev() == 0);
    let opaque = |path: &str| {
        let mut value = [0; 1];
        rustix::fs::lgetxattr(outcome.path(path), OPAQUE, &mut value) == Ok(1) && value == *b"y"
    };
    assert!(opaque("b") && opaque("c") && opaque("d") && !opaque("a"));
    assert_eq!(outcome.text("c/mine").as_deref(), Some("x"));
    assert_eq!(outcome.text("d/mine").as_deref(), Some("x"));
    assert!(!outcome.path(".wh..wh.plnk").exists());
}

#[test]
fn the_later_entry_counts() {
    let outcome = unpacked(
        Tar::default().file("a", "first").file("a", "second").file("b/c/d", "x").file("b", "file now").directory("a"),
    );
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.text("b").as_deref(), Some("file now"));
    assert!(outcome.path("a").is_dir());
}

#[test]
fn limits_hold_for_entries_bytes_and_headers() {
    let limits = UnpackLimits { entries: 2, bytes: 10 };
    let many = Tar::default().file("a", "").file("b", "").file("c", "").done();
    assert!(matches!(unpacked_as(&many, &many, limits).result, Err(UnpackError::TooManyEntries(2))));
    // What a path needs is made, and counts, too; what is there does not count again.
    let deep = Tar::default().directory("a/b/").directory("a/b/c").done();
    let of = |entries| UnpackLimits { entries, bytes: 10 };
    assert_eq!(unpacked_as(&deep, &deep, of(3)).result.unwrap().entries, 2);
    assert!(matches!(unpacked_as(&deep, &deep, of(2)).result, Err(UnpackError::TooManyEntries(2))));
    let deep = Tar::default().directory(&"a/".repeat(50)).done();
    let refused = unpacked_as(&deep, &deep, of(20));
    assert!(matches!(refused.result, Err(UnpackError::TooManyEntries(20))), "{:?}", refused.result);
    assert!(!refused.path(&"a/".repeat(20)).exists());
    let long = Tar::default().file("a", "12345").file("b", "123456").done();
    assert!(matches!(unpacked_as(&long, &long, limits).result, Err(UnpackError::TooManyBytes(10))));
    let exact = Tar::default().file("a", "12345").file("b", "12345").done();
    assert_eq!(unpacked_as(&exact, &exact, limits).result.unwrap().bytes, 10);
    let skipped = Tar::default().entry(tar::EntryType::Char, "a", "", 0, b"0123456789a").done();
    assert!(matches!(unpacked_as(&skipped, &skipped, limits).result, Err(UnpackError::TooManyBytes(10))));

    let name = "n".repeat(2 << 20);
    let longest =
        Tar::default().entry(tar::EntryType::GNULongName, "././@LongLink", "", 0, name.as_bytes()).file("a", "");
    let longest = longest.done();
    assert!(matches!(unpacked_as(&longest, &longest, UnpackLimits::default()).result, Err(UnpackError::HeaderTooLong)));
}

#[test]
fn a_bomb_of_zeros_is_stopped_by_the_limit_and_not_by_memory() {
    let limits = UnpackLimits { entries: 10, bytes: 1 << 20 };
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // After an archive's end mark: no entry, so only the bound on the archive itself can tell.
    for _ in 0..64 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000);
    assert!(matches!(unpacked_as(&bomb, b"", limits).result, Err(UnpackError::TooLong)));

    let sparse = {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.as_old_mut().name[0] = b's';
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 40);
        gnu.sparse[0].set_offset(1 << 40);
        gnu.sparse[0].set_length(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(1536, 0);
        bytes
    };
    assert!(matches!(unpacked_as(&sparse, &sparse, limits).result, Err(UnpackError::TooManyBytes(_))));
}

#[test]
fn ten_million_entries_are_stopped_at_the_first_million() {
    // Fifos, which are left out: what is counted is what the archive has, not what is made of it.
    let mut block = tar::Builder::new(Vec::new());
    for _ in 0..2048 {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Fifo);
        header.set_path("f").unwrap();
        header.set_size(0);
        header.set_cksum();
        block.append(&header, io::empty()).unwrap();
    }
    let block = &block.get_ref()[..2048 * 512];
    // One compressed piece, again and again, is one compressed stream.
    let packed = zstd::encode_all(block, 19).unwrap().repeat(10_000_000 / 2048);
    assert!(packed.len() < 2 << 20, "{} bytes", packed.len());
    let outcome = unpacked_as(&packed, b"", UnpackLimits::default());
    assert!(matches!(outcome.result, Err(UnpackError::TooManyEntries(1_000_000))), "{:?}", outcome.result);
}

#[test]
fn damaged_archives_are_refused() {
    let good = Tar::default().file("a", &"x".repeat(5000)).done();
    for end in [100, 512, 600, 5000] {
        let outcome = unpacked_as(&good[..end], &good, UnpackLimits::default());
        assert!(outcome.result.is_err(), "cut at {end}");
    }
    let mut noise = good.clone();
    noise[3] ^= 0xff;
    assert!(matches!(unpacked_as(&noise, &noise, UnpackLimits::default()).result, Err(UnpackError::Archive(_))));
    let cut_gzip = [0x1f, 0x8b, 8, 0, 0];
    assert!(matches!(unpacked_as(&cut_gzip, b"", UnpackLimits::default()).result, Err(UnpackError::Archive(_))));
    let other = unpacked_as(&good, b"something else", UnpackLimits::default());
    assert!(matches!(other.result, Err(UnpackError::DiffId { .. })));
    let empty = unpacked_as(b"", b"", UnpackLimits::default());
    assert_eq!(empty.result.unwrap(), Unpacked::default());
}

#[test]
fn what_is_no_archive_is_refused_whatever_its_manifest_calls_it() {
    for begins in [&b"\0asm\x01\0\0\0"[..], b"\x7fELF", b"<html>", b"{\"layers\":[]}", b"PK\x03\x04"] {
        for length in [begins.len(), 512, 5000] {
            let mut bytes = begins.to_vec();
            bytes.resize(length, b' ');
            let outcome = unpacked_as(&bytes, &bytes, UnpackLimits::default());
            assert!(
                matches!(outcome.result, Err(UnpackError::Archive(_))),
                "{begins:?}, {length}: {:?}",
                outcome.result
            );
            assert_eq!(fs::read_dir(outcome.path(".")).unwrap().count(), 0);
        }
    }
}

#[test]
fn owners_that_mean_leave_as_it_is_are_refused() {
    let mut bytes = Tar::default().file("a", "").done();
    let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
    header.set_uid(u64::from(u32::MAX));
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    let outcome = unpacked_as(&bytes, &bytes, UnpackLimits::default());
    assert_eq!(outcome.refusal(), "the entry `a` has an invalid owner");
}

#[test]
fn hard_links_to_nothing_and_to_directories_are_refused() {
    for archive in [
        Tar::default().hard_link("a", "missing"),
        Tar::default().directory("d").hard_link("a", "d"),
        Tar::default().hard_link("a", "/"),
        Tar::default().hard_link("a", ""),
        Tar::default().symlink("a", ""),
    ] {
        assert!(unpacked(archive).result.is_err());
    }
    let same = unpacked(Tar::default().file("a", "x").hard_link("a", "a"));
    assert_eq!(same.text("a").as_deref(), Some("x"), "{:?}", same.result);
}

#[test]
fn one_nobody_waits_for_stops() {
    let directory = tempfile::tempdir().unwrap();
    let mut archive = tempfile::tempfile().unwrap();
    archive.write_all(&Tar::default().file("a", "x").done()).unwrap();
    archive.rewind().unwrap();
    let into = File::open(directory.path()).unwrap().into();
    let cancelled = Arc::new(AtomicBool::new(true));
    let result = unpack(archive, into, &Digest::of(b""), UnpackLimits::default(), &cancelled);
    assert!(matches!(result, Err(UnpackError::Cancelled)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
