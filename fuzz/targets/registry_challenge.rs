//! `WWW-Authenticate`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| samara_images::fuzzing::challenge(text));
