//! How much memory a pull takes, whatever a registry sends. Alone in its process, because it is the process that is measured.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use samara_images::{Digest, Hasher, ImageStore, Puller, PullerConfig, Reference};

/// The goal of a pull, of any size.
const MOST: u64 = 64 << 20;
/// The content of the large module, which is never held whole.
static PIECE: [u8; 64 << 10] = [0; 64 << 10];
const PIECES: u64 = 1600;
/// A module with one custom section of that length: 4 bytes of name, then the pieces.
const START: [u8; 18] = [0, b'a', b's', b'm', 1, 0, 0, 0, 0, 0x84, 0x80, 0x80, 0x32, 3, b'p', b'a', b'd', 0];

/// What the registry is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Large,
    EndlessManifest,
    EndlessError,
    EndlessHeader,
}

fn documents() -> (String, &'static str, u64) {
    let config = "{}";
    let size = START.len() as u64 + PIECES * PIECE.len() as u64;
    let mut hasher = Hasher::sha256();
    hasher.update(&START);
    for _ in 0..PIECES {
        hasher.update(&PIECE);
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{}","size":2}},
        "layers":[{{"mediaType":"application/wasm","digest":"{}","size":{size}}}]}}"#,
        Digest::of(config.as_bytes()),
        hasher.finish()
    );
    (manifest, config, size)
}

/// Answers one request after the other, each from a thread of its own.
fn serve(kind: Kind) -> Reference {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = Reference::parse(&format!("{}/app:v1", listener.local_addr().unwrap())).unwrap();
    let documents = documents();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let documents = documents.clone();
            // The client goes away when it has had enough.
            std::thread::spawn(move || answer(stream, kind, &documents).ok());
        }
    });
    reference
}

fn answer(mut stream: TcpStream, kind: Kind, (manifest, config, size): &(String, &str, u64)) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let target = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let head = |length: u64| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let endless = |status: u32| format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n");
    let is_manifest = target.contains("/manifests/");
    match kind {
        Kind::EndlessManifest | Kind::EndlessError if is_manifest => {
            let status = if kind == Kind::EndlessError { 500 } else { 200 };
            stream.write_all(endless(status).as_bytes())?;
            loop {
                stream.write_all(b"10000\r\n")?;
                stream.write_all(&PIECE)?;
                stream.write_all(b"\r\n")?;
            }
        }
        Kind::EndlessHeader if is_manifest => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
            loop {
                stream.write_all(&[b'x'; 64 << 10])?;
            }
        }
        _ if is_manifest => stream.write_all(format!("{}{manifest}", head(manifest.len() as u64)).as_bytes()),
        _ if target.contains(Digest::of(config.as_bytes()).as_str()) => {
            stream.write_all(format!("{}{config}", head(config.len() as u64)).as_bytes())
        }
        Kind::Large | Kind::EndlessManifest | Kind::EndlessError | Kind::EndlessHeader => {
            stream.write_all(head(*size).as_bytes())?;
            stream.write_all(&START)?;
            (0..PIECES).try_for_each(|_| stream.write_all(&PIECE))
        }
    }
}

/// The most that this process ever had in memory.
fn high_water() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn a_pull_takes_no_more_memory_for_a_large_image_or_a_hostile_registry() {
    // Fails only if it was done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&directory.path().join("images")).unwrap();
    let puller = Puller::new(store, PullerConfig::default());
    for kind in [Kind::Large, Kind::EndlessManifest, Kind::EndlessError, Kind::EndlessHeader] {
        let reference = serve(kind);
        let begun = Instant::now();
        let pulled = puller.pull(&reference, &[], &()).await;
        let (took, most) = (begun.elapsed(), high_water());
        println!("{kind:?}: {took:?}, at most {} MiB", most >> 20);
        assert_eq!(pulled.is_ok(), kind == Kind::Large, "{kind:?}: {pulled:?}");
        assert!(most < MOST, "{kind:?}: {} MiB", most >> 20);
        assert!(took < Duration::from_secs(120), "{kind:?}: {took:?}");
    }
}
