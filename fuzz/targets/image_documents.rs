//! Manifests, indexes and configurations; the two documents stand one after the other, with a 0 between.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut documents = bytes.splitn(2, |byte| *byte == 0);
    let (manifest, config) = (documents.next().unwrap_or_default(), documents.next().unwrap_or(b"{}"));
    samara_images::fuzzing::documents(manifest, config);
});
