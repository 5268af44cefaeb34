//! Rotation.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

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
