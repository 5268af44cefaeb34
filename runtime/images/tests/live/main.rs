//! Pull and push against the real registry (distribution v3), and against a scripted one for what a real one cannot do on cue.

mod admission;
mod buildah;
mod credentials;
mod ecr;
mod formats;
mod full;
mod hostile;
mod images;
mod interop;
mod layouts;
mod limits;
mod mirrors;
mod moto;
mod patience;
mod plugins;
mod proxies;
mod raw;
mod redirects;
mod registry;
mod script;
mod sharing;
mod store;
mod ways;
mod wkg;

use samara_images::{ImageStore, Puller, PullerConfig, RegistryConfig};
use tempfile::TempDir;

/// A store in a directory of its own and a puller into it.
#[derive(Debug)]
struct Node {
    puller: Puller,
    _directory: TempDir,
}

impl Node {
    fn new() -> Self {
        Self::with(PullerConfig::default())
    }

    fn trusting(registries: RegistryConfig) -> Self {
        Self::with(PullerConfig { registries, ..PullerConfig::default() })
    }

    fn with(config: PullerConfig) -> Self {
        install_tls();
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&directory.path().join("images")).unwrap();
        Self { puller: Puller::new(store, config), _directory: directory }
    }

    fn store(&self) -> &ImageStore {
        self.puller.store()
    }

    /// How many blobs and unpacked layers there are, and how much is left half done.
    fn count(&self) -> (usize, usize, usize) {
        let entries = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
        let root = self.store().root();
        let half_done = std::fs::read_dir(root.join("tmp")).unwrap().flatten().map(|own| own.path());
        let half_done = half_done.filter(|own| own.is_dir()).map(|own| entries(&own) - 1).sum();
        (entries(&root.join("blobs/sha256")), entries(&root.join("layers/sha256")), half_done)
    }
}

fn install_tls() {
    // Fails only if another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A program that `make tools` builds.
fn tool(name: &str) -> std::path::PathBuf {
    let tools = match std::env::var_os("SAMARA_TOOLS") {
        Some(tools) => tools.into(),
        None => std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools"),
    };
    let program = tools.join(name);
    assert!(program.is_file(), "there is no {}; `make tools` builds it", program.display());
    program
}

/// Runs a tool to its end and gives what it wrote.
fn run(name: &str, arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(tool(name));
    let output = command.args(arguments).env_clear().env("HOME", home.path()).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The smallest module.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// The smallest component.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A valid module that is `length` bytes long: one custom section of noise.
fn module(length: usize) -> Vec<u8> {
    let mut payload = vec![4, b'p', b'a', b'd', b'0'];
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    while payload.len() < length.saturating_sub(14) {
        noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        payload.push((noise >> 56) as u8);
    }
    let mut bytes = MODULE.to_vec();
    bytes.push(0);
    let mut size = payload.len();
    for position in 0..5 {
        bytes.push((size & 0x7f) as u8 | if position < 4 { 0x80 } else { 0 });
        size >>= 7;
    }
    bytes.extend(payload);
    bytes
}
