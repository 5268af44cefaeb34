//! An archive of images, a layout's or docker's, of which nothing may be left and nothing may lie beside.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| {
    let around = tempfile::tempdir().expect("a directory");
    let scratch = around.path().join("scratch");
    fs::create_dir(&scratch).expect("a directory");
    samara_images::fuzzing::archive(archive, &scratch);
    let left = |directory| fs::read_dir(directory).expect("read").flatten().map(|entry| entry.file_name());
    assert_eq!(left(around.path()).collect::<Vec<_>>(), ["scratch"], "something was written beside the scratch directory");
    assert_eq!(left(&scratch).count(), 0, "something is left of it");
});
