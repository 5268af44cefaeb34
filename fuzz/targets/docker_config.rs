//! Docker's `config.json` and the older `.dockercfg`, as pull secrets carry them, and what they hold for an image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samara_images::{DockerConfig, Keyring, Reference};

const IMAGES: [&str; 5] = [
    "busybox",
    "registry.test:5000/team/app:1",
    "a.b.example/x/y",
    "[::1]:5000/z",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test/x",
];

fuzz_target!(|bytes: &[u8]| {
    let images = IMAGES.map(|image| Reference::parse(image).expect("an image"));
    for keyring in [Keyring::from_config_json(bytes), Keyring::from_config(bytes)].into_iter().flatten() {
        for image in &images {
            keyring.lookup(image);
        }
    }
    if let Ok(config) = DockerConfig::parse(bytes) {
        images.iter().for_each(|image| drop(config.held(image)));
    }
});
