//! The guests' wasm: built once, compiled once.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use samara_runtime::{CodeCache, CodeFile, CompileError, Host, HostConfig, code};
use sha2::{Digest as _, Sha256};

/// `cargo build` of the guests beside these tests.
pub(crate) fn build() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/Cargo.toml");
    for (target, packages) in [("wasm32-wasip1", &["-p", "probe", "-p", "stopper"][..]), ("wasm32-wasip2", &[])] {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "--target", target])
            .args(packages)
            .arg("--manifest-path")
            .arg(&manifest)
            .env("CARGO_TARGET_DIR", target_dir())
            // What cargo says to a build for the host is not meant for guests.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the guests build for {target}; `rustup target add {target}` if that is missing");
    }
}

fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")
}

/// The preview 1 module of a guest.
pub(crate) fn module(name: &str) -> Vec<u8> {
    read("wasm32-wasip1", name)
}

/// The component of a guest.
pub(crate) fn component(name: &str) -> Vec<u8> {
    read("wasm32-wasip2", name)
}

fn read(target: &str, name: &str) -> Vec<u8> {
    let path = target_dir().join(target).join("release").join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One host for all tests, as in a zygote.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(&HostConfig::default()).unwrap())
}

/// Compiles by way of worker and cache.
pub(crate) fn compiled(wasm: &[u8]) -> Result<CodeFile, CompileError> {
    let cache = CodeCache::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("code")).unwrap();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(wasm)));
    runtime().block_on(code::ensure(&cache, &exe(), file(wasm), &digest))
}

/// This program, which is the compile worker too.
pub(crate) fn exe() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// An open file with these bytes.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
