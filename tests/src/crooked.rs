//! A registry that does wrong: whatever manifest, whatever bytes, whatever status, on a node's own loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use futures::StreamExt as _;
use http::{StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::node::Node;

/// What it answers to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These bytes with this content type.
    Content(&'static str, Bytes),
    /// This status, and nothing more.
    Status(StatusCode),
    /// The whole length is promised, half of the bytes are sent, and the connection is cut.
    Cut(&'static str, Bytes),
}

/// A registry by name of image and reference.
#[derive(Debug)]
pub struct Crooked {
    port: u16,
    answers: Arc<Answers>,
    _server: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Answers {
    by_path: Mutex<BTreeMap<String, Answer>>,
    asked: AtomicUsize,
}

impl Crooked {
    /// Listens on a free port of the node's loopback.
    pub fn start(node: &Node) -> Result<Self> {
        let listener = node
            .namespace()
            .run(|| StdListener::bind((Ipv4Addr::LOCALHOST, 0)))?
            .context("listen in the node's namespace")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let answers = Arc::new(Answers::default());
        let routes = Router::new()
            .route("/v2/", get(async || "{}"))
            .route("/v2/{*path}", get(answer).head(answer))
            .with_state(Arc::clone(&answers));
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, routes).await.ok();
        });
        Ok(Self { port, answers, _server: server })
    }

    /// The name of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("localhost:{}/{name}:v1", self.port)
    }

    /// Answers a path beneath `/v2/`.
    pub fn answer(&self, path: impl Into<String>, answer: Answer) {
        self.answers.by_path.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(path.into(), answer);
    }

    /// How often it was asked for anything beneath `/v2/`.
    pub fn asked(&self) -> usize {
        self.answers.asked.load(Ordering::Relaxed)
    }

    /// Serves an image in the CNCF format whose one layer claims to be `claimed` and is answered as given.
    pub fn artifact(&self, name: &str, claimed: &[u8], layer: Answer) {
        let config = json!({ "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1", "layerDigests": [digest(claimed)] });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.wasm.config.v0+json", &config),
            "layers": [descriptor("application/wasm", claimed)],
        });
        self.answer(
            format!("{name}/manifests/v1"),
            Answer::Content("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into()),
        );
        self.answer(
            format!("{name}/blobs/{}", digest(&config)),
            Answer::Content("application/octet-stream", config.into()),
        );
        self.answer(format!("{name}/blobs/{}", digest(claimed)), layer);
    }

    /// Serves an honest image of these bytes.
    pub fn honest(&self, name: &str, bytes: &[u8]) {
        self.artifact(name, bytes, Answer::Content("application/octet-stream", Bytes::copy_from_slice(bytes)));
    }
}

async fn answer(State(answers): State<Arc<Answers>>, Path(path): Path<String>) -> Response {
    answers.asked.fetch_add(1, Ordering::Relaxed);
    let found = answers.by_path.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&path).cloned();
    let response = Response::builder();
    let built = match found.unwrap_or(Answer::Status(StatusCode::NOT_FOUND)) {
        Answer::Content(kind, bytes) => response
            .header(header::CONTENT_TYPE, kind)
            .header("Docker-Content-Digest", digest(&bytes))
            .body(Body::from(bytes)),
        Answer::Status(status) => response.status(status).body(Body::empty()),
        Answer::Cut(kind, bytes) => {
            let half = bytes.slice(..bytes.len() / 2);
            let pieces = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
            let response = response.header(header::CONTENT_TYPE, kind).header(header::CONTENT_LENGTH, bytes.len());
            response.body(Body::from_stream(pieces.boxed()))
        }
    };
    built.unwrap_or_default()
}

/// `sha256:...` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
}
