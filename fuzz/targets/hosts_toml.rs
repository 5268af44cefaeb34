//! containerd's `hosts.toml`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(hosts) = samara_images::parse_hosts(text, "docker.io", Path::new("/certs.d/docker.io")) {
        assert!(!hosts.is_empty(), "there is always the registry itself");
        for host in hosts {
            assert!(host.starts_with("http://") || host.starts_with("https://"), "{host}");
        }
    }
});
