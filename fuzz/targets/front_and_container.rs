//! The control protocol between front and container, both directions, in whatever pieces it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| samara_shim::container::control::fuzzing::messages(bytes));
