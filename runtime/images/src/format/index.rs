//! Which entry of an index is ours.

use super::Refusal;
use super::manifest::{Descriptor, Index, Platform};
use crate::media_type;

/// The best entry: a component's platform before a module's, any wasm platform before an entry that names none.
/// Entries for processors are never taken, also not the node's own.
pub(crate) fn choose(index: &Index) -> Result<&Descriptor, Refusal> {
    let best = index
        .manifests
        .iter()
        .enumerate()
        .filter_map(|(position, entry)| Some((rank(entry)?, position, entry)))
        .min_by_key(|(rank, position, _)| (*rank, *position));
    match best {
        Some((_, _, entry)) => Ok(entry),
        None => Err(Refusal::NoWasmPlatform { offered: offered(index) }),
    }
}

/// Lower is better; `None` is not for us.
fn rank(entry: &Descriptor) -> Option<u8> {
    let Some(platform) = entry.platform.as_ref().filter(|it| **it != Platform::default()) else {
        return match entry.artifact_type.as_deref() {
            Some(media_type::WASM_CONFIG) => Some(2),
            _ => Some(5),
        };
    };
    let wasm = platform.architecture.starts_with("wasm");
    match platform.os.as_str() {
        "wasip2" => Some(0),
        "wasip1" => Some(1),
        os if os.starts_with("wasi") => Some(3),
        _ if wasm => Some(4),
        _ => None,
    }
}

fn offered(index: &Index) -> String {
    let mut names: Vec<String> = Vec::new();
    for entry in &index.manifests {
        let platform = entry.platform.clone().unwrap_or_default();
        let name = format!("{}/{}", platform.os, platform.architecture);
        // Build attestations are listed under this name, and are not an offer.
        if name != "unknown/unknown" && !names.contains(&name) {
            names.push(name);
        }
    }
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms
            .iter()
            .map(|platform| Descriptor {
                media_type: media_type::OCI_MANIFEST.to_owned(),
                artifact_type: None,
                digest: Digest::of(platform.as_bytes()),
                size: 1,
                annotations: None,
                platform: platform
                    .split_once('/')
                    .map(|(os, architecture)| Platform { os: os.to_owned(), architecture: architecture.to_owned() }),
            })
            .collect();
        Index { schema_version: 2, media_type: None, manifests }
    }

    #[test]
    fn the_wasm_entry_is_chosen_beside_linux_ones() {
        let cases: [(&[&str], &str); 6] = [
            (&["linux/amd64", "wasip1/wasm", "linux/arm64"], "wasip1/wasm"),
            (&["wasip1/wasm", "wasip2/wasm"], "wasip2/wasm"),
            (&["linux/wasm", "wasi/wasm"], "wasi/wasm"),
            (&["linux/amd64", "linux/wasm32"], "linux/wasm32"),
            (&["", "linux/amd64"], ""),
            (&["", "wasi/wasm"], "wasi/wasm"),
        ];
        for (platforms, chosen) in cases {
            let index = index(platforms);
            assert_eq!(choose(&index).unwrap().digest, Digest::of(chosen.as_bytes()), "{platforms:?}");
        }
    }

    #[test]
    fn an_index_without_wasm_is_refused_with_what_it_offers() {
        let several = index(&["linux/amd64", "unknown/unknown", "linux/arm64", "linux/amd64"]);
        let offered = "linux/amd64, linux/arm64".to_owned();
        assert_eq!(choose(&several), Err(Refusal::NoWasmPlatform { offered }));
        let offered = "nothing".to_owned();
        assert_eq!(choose(&index(&[])), Err(Refusal::NoWasmPlatform { offered }));
    }
}
