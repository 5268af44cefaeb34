//! The `KubeletConfiguration` file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| drop(samara_core::config::parse(text)));
