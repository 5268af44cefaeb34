//! What a credential-provider plugin answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(reason) = samara_images::check_provider_response(bytes) {
        assert!(!reason.is_empty());
    }
});
