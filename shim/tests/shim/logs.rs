//! Rotation, and a disk that is full.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::bundle::Container;
use crate::guests;
use crate::node::{Node, until};

/// All files of a log, oldest first.
fn files(container: &Container) -> Vec<PathBuf> {
    let dir = container.log.path.parent().expect("directory");
    let mut files: Vec<_> = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("entry").path()).collect();
    files.sort_by_key(|path| (*path == container.log.path, path.clone()));
    files
}

/// `None` for one that is being compressed or removed at this moment.
fn text(path: &PathBuf) -> Option<String> {
    let mut text = String::new();
    let mut file = File::open(path).ok()?;
    let read = match path.extension()?.to_str()? {
        "tmp" => return None,
        "gz" => flate2::read::GzDecoder::new(file).read_to_string(&mut text),
        _ => file.read_to_string(&mut text),
    };
    read.ok().map(|_| text)
}

#[tokio::test]
async fn rotation_under_load_loses_no_line() {
    const LINES: u32 = 200_000;
    let node = Node::start().await;
    let mut container = node.container(&guests::counter(LINES, true));
    (container.log.max_size, container.log.max_files) = (Some(100_000), 100);
    node.run(&container).await;
    let last = format!("{:08}", LINES - 1);
    let written = || files(&container).iter().any(|path| text(path).is_some_and(|text| text.contains(&last)));
    until("the last line", || written().then_some(())).await;
    let at_rest = || {
        let files = files(&container);
        let (current, rotated) = files.split_last()?;
        let small = fs::metadata(current).ok()?.len() < 100_000;
        let plain = rotated.iter().filter(|path| path.extension().is_none_or(|end| end != "gz")).count();
        (small && plain <= 1).then_some(())
    };
    until("rotated and compressed", at_rest).await;
    let files = files(&container);
    assert!(files.len() >= 3, "rotated: {files:?}");
    let all: String = files.iter().map(|path| text(path).expect("readable")).collect();
    let number = |line: &str| line.rsplit(' ').next().unwrap_or_default().parse::<u32>().expect("a number");
    let wrong = all.lines().map(number).zip(0..).find(|(found, expected)| found != expected);
    assert_eq!((wrong, all.lines().count()), (None, LINES as usize), "every line once and in order: {files:?}");
}

#[tokio::test]
async fn a_log_that_was_removed_is_made_anew() {
    let node = Node::start().await;
    let mut container = node.container(&guests::sleeper());
    container.log.max_size = Some(1_000_000);
    node.run(&container).await;
    until("ready", || container.records().contains(&"stdout F ready".to_owned()).then_some(())).await;
    fs::remove_file(&container.log.path).expect("removed");
    until("made anew", || container.log.path.exists().then_some(())).await;
}

/// A disk of the test's own, as small as it needs.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, kibibytes: u32) -> Self {
        fs::create_dir_all(at).expect("directory");
        let size = std::ffi::CString::new(format!("size={kibibytes}k")).expect("text");
        mount("small", at, "tmpfs", MountFlags::empty(), size.as_c_str()).expect("mounted");
        Self(at.to_owned())
    }

    fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.0).expect("a disk").f_bavail == 0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for file in fs::read_dir(&self.0).into_iter().flatten().flatten() {
                eprintln!("{} {:?}", file.path().display(), file.metadata().map(|about| about.len()));
            }
        }
        unmount(&self.0, UnmountFlags::DETACH).expect("unmounted");
    }
}

/// Where a log says that records are missing: the numbers before and after, and how many it says.
fn gaps(text: &str) -> Vec<(u32, u32, u32)> {
    let lines: Vec<&str> = text.lines().collect();
    // One that was cut off is shorter.
    let number = |line: &&str| line.rsplit(' ').next().filter(|word| word.len() == 8)?.parse::<u32>().ok();
    let gap = |at: usize| {
        let (_, report) = lines[at].split_once(" F samara: ")?;
        let dropped = report.strip_suffix(" log records dropped: no space left on device")?.parse().ok()?;
        let before = lines[..at].iter().rev().find_map(number)?;
        Some((before, lines[at + 1..].iter().find_map(number)?, dropped))
    };
    (0..lines.len()).filter_map(gap).collect()
}

#[tokio::test]
async fn a_log_on_a_full_disk_says_how_much_it_lost_when_there_is_room_and_is_rotated_on() {
    let node = Node::start().await;
    let mut container = node.container(&guests::counter(u32::MAX, true));
    let dir = container.log.path.parent().expect("directory").to_owned();
    let disk = SmallDisk::mount(&dir, 512);
    let other = dir.join("other");
    fs::write(&other, vec![0; 256 << 10]).expect("written");
    // What was rotated makes room when it goes.
    (container.log.max_size, container.log.max_files) = (Some(100_000), 2);
    let pid = node.run(&container).await;
    let logs = || files(&container).into_iter().filter(|path| *path != other).collect::<Vec<_>>();
    until("full, and the guest has been given a new file", || (disk.is_full() && logs().len() > 1).then_some(())).await;
    assert!(crate::node::lives(pid.cast_signed()), "its log is no reason to end");

    fs::remove_file(&other).expect("removed");
    until("the log says how many are missing", || {
        let all: Vec<_> = logs().iter().filter_map(text).collect();
        // One that lacks nothing but its end is dropped too. A file may be renamed as one looks.
        let is_right = |(before, after, dropped): (u32, u32, u32)| {
            let apart = after.wrapping_sub(before);
            [apart.wrapping_sub(1), apart].contains(&dropped)
        };
        gaps(&all.concat()).into_iter().any(is_right).then_some(())
    })
    .await;
    // Whatever becomes of the files before it.
    let current = || fs::metadata(&container.log.path).ok().map(|about| about.ino());
    let before = until("there", current).await;
    until("rotated on", || current().filter(|now| *now != before)).await;
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    node.shim.wait(&container.id, "").await.expect("ended");
}
