//! What a module or component is and imports, which decides whether it is compiled.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| samara_runtime::code::fuzzing::inspect_any(bytes));
