//! A layer with more directories in each other than a process may have files open.

use std::fs::{self, File};
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::unpack::{UnpackError, UnpackLimits, unpack};

const FILES: u64 = 256;
const DEPTH: usize = 1000;

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    builder.append_data(&mut header, "a/".repeat(DEPTH), std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

/// The limit is a process' own: other tests keep theirs.
#[test]
fn a_deep_layer_is_refused_collected_and_cleared_away() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = "store::deep::with_few_files";
    let output = child.args(["--exact", name, "--ignored", "--nocapture"]).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "a part of a_deep_layer_is_refused_collected_and_cleared_away"]
async fn with_few_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let archive = archive();
    let (digest, other) = (Digest::of(&archive), Digest::of(b"other"));
    let store = ImageStore::open(directory.path()).unwrap();
    store.put_blob_as(&archive, &digest).unwrap();
    let here = || fs::read_dir(store.inner.own.path()).unwrap().count();

    let refused = store.unpack_layer(&digest, &other, UnpackLimits::default()).await;
    assert!(matches!(refused, Err(LayerError::Unpack(UnpackError::DiffId { .. }))), "{refused:?}");
    assert_eq!(here(), 1, "the lock alone");

    store.unpack_layer(&digest, &digest, UnpackLimits::default()).await.unwrap();
    assert!(store.has_layer(&digest));
    let collected = Collected { blobs: 1, layers: 1, bytes: archive.len() as u64 };
    assert_eq!(store.collect().unwrap(), Some(collected));
    assert_eq!(here(), 1);

    // What a dead process left, beside what nobody can make anything of.
    let dead = directory.path().join("tmp/dead");
    fs::create_dir_all(directory.path().join("tmp/strange/lock")).unwrap();
    fs::create_dir(&dead).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &archive).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let into = File::open(&dead).unwrap().into();
    unpack(file, into, &digest, UnpackLimits::default(), &Arc::default()).unwrap();
    ImageStore::open(directory.path()).unwrap();
    assert!(!dead.exists());
}
