//! For the fuzz targets: the reader of a bundle that a stranger made. Not a part of the API.

use std::path::Path;

use oci_spec::runtime::Spec;
use samara_shim_client::client::Standard;

use super::outline::{Host, Master, Outline, ProcessOutline, parse_hosts, parse_resolv_conf};
use crate::plan::GuestNetwork;

/// A `config.json`, decided as a container's first process and as a further one.
pub fn config_json(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        parse_hosts(text);
        parse_resolv_conf(text, &mut GuestNetwork::default());
    }
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    let standard = Standard::default();
    for master in [Master::Agent, Master::Containerd] {
        let host = Host { cpus: 4, master };
        match Outline::of(&spec, Path::new("/run/bundle"), &[], &standard, &host) {
            Ok(outline) => drop(serde_json::to_value(outline).expect("written")),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        if let Some(process) = spec.process() {
            let _ = ProcessOutline::exec(&spec, process, &standard, &host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in `fuzz/seeds`.
    fn seeds(target: &str) -> impl Iterator<Item = Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
        let seeds: Vec<_> = std::fs::read_dir(directory).expect("seeds").collect();
        assert!(!seeds.is_empty());
        seeds.into_iter().map(|seed| std::fs::read(seed.expect("seed").path()).expect("read"))
    }

    #[test]
    fn what_holds_of_any_input_holds_of_the_seeds() {
        seeds("oci-spec").for_each(|bytes| config_json(&bytes));
    }
}
