//! A registry that begins to send a module and then waits for ever, which a real one does not do on cue.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use samara_images::Digest;
use serde_json::json;

const MODULE: &str = "application/wasm";
const CONFIG: &[u8] = b"{}";
/// As many bytes as it says there are.
const SIZE: usize = 8 << 20;

/// Serves `slow:v1` until the test's process ends, and gives the name.
pub(crate) fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever asks may go away.
            std::thread::spawn(move || serve(stream));
        }
    });
    format!("{address}/slow:v1")
}

fn serve(stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let path = request.split(' ').nth(1)?;
        let (kind, body) = match path.rsplit('/').next()? {
            "v1" => ("application/vnd.oci.image.manifest.v1+json", manifest()),
            digest if digest == Digest::of(CONFIG).as_str() => ("application/octet-stream", CONFIG.to_vec()),
            digest if digest == Digest::of(MODULE.as_bytes()).as_str() => {
                let mut begun = b"\0asm\x01\0\0\0".to_vec();
                begun.resize(SIZE / 2, 0);
                answer(&stream, "application/octet-stream", SIZE, &begun)?;
                // Nothing more comes, and the connection stays.
                return lines.next().map(drop);
            }
            _ => ("application/json", b"{}".to_vec()),
        };
        let shown: &[u8] = if request.starts_with("HEAD") { &[] } else { &body };
        answer(&stream, kind, body.len(), shown)?;
    }
}

fn answer(mut stream: &TcpStream, kind: &str, length: usize, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}

fn manifest() -> Vec<u8> {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": Digest::of(CONFIG), "size": CONFIG.len() },
        "layers": [{ "mediaType": MODULE, "digest": Digest::of(MODULE.as_bytes()), "size": SIZE }],
    })
    .to_string()
    .into_bytes()
}
