//! A layer's archive, unpacked into a directory beside which nothing may appear.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| {
    let around = tempfile::tempdir().expect("a directory");
    let into = around.path().join("layer");
    fs::create_dir(&into).expect("a directory");
    samara_images::fuzzing::layer(archive, &into);
    let beside: Vec<_> = fs::read_dir(around.path()).expect("read").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(beside, ["layer"], "something was written beside the layer");
});
