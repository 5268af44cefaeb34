//! Names of images.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samara_images::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = Reference::parse(text) else { return };
    let whole = reference.to_string();
    assert_eq!(Reference::parse(&whole), Ok(reference.clone()), "{whole}");
    for part in reference.repository().split('/') {
        assert!(!part.is_empty() && !part.starts_with('.'), "{whole}");
    }
    assert!(!reference.registry().contains(['/', '@', ' ', '\\', '\0']), "{whole}");
});
