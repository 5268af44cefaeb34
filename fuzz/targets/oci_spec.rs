//! A bundle's `config.json`, decided.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| samara_shim::front::fuzzing::config_json(bytes));
