//! A registry of one image: a wasm artifact under every name, or a refusal.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use samara_images::Digest;
use serde_json::json;
use tokio::sync::watch;

/// A core module with nothing in it.
const WASM: &[u8] = b"\0asm\x01\0\0\0";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The scripted registry.
#[derive(Clone)]
pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    down: Arc<Mutex<bool>>,
    pulls: Arc<Mutex<usize>>,
    /// Requests for the wasm that are never answered: so many are still to come.
    silences: watch::Sender<usize>,
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry =
            Self { address, down: Arc::default(), pulls: Arc::default(), silences: watch::Sender::default() };
        let router = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }

    pub(crate) fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    /// The next one who asks for the wasm gets no answer; waits until somebody has asked.
    pub(crate) fn keep_silent_once(&self) -> impl Future<Output = ()> + use<> {
        self.silences.send_replace(1);
        let mut silences = self.silences.subscribe();
        async move { drop(silences.wait_for(|left| *left == 0).await) }
    }

    /// Manifests that were asked for.
    pub(crate) fn pulls(&self) -> usize {
        *self.pulls.lock().unwrap()
    }
}

async fn answer(State(registry): State<FakeRegistry>, uri: Uri) -> Response {
    let config = json!({
        "architecture": "wasm", "os": "wasip1", "created": "2026-01-01T00:00:00Z",
        "layerDigests": [Digest::of(WASM).to_string()],
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": Digest::of(config.as_bytes()).to_string(), "size": config.len(),
        },
        "layers": [{ "mediaType": "application/wasm", "digest": Digest::of(WASM).to_string(), "size": WASM.len() }],
    })
    .to_string();
    let path = uri.path();
    if path == "/v2/" {
        return StatusCode::OK.into_response();
    }
    if *registry.down.lock().unwrap() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if path.contains("/manifests/") {
        *registry.pulls.lock().unwrap() += 1;
        let digest = Digest::of(manifest.as_bytes()).to_string();
        return ([(header::CONTENT_TYPE.as_str(), MANIFEST.to_owned()), ("docker-content-digest", digest)], manifest)
            .into_response();
    }
    match path.rsplit('/').next() {
        Some(digest) if digest == Digest::of(WASM).as_str() => {
            let silent = registry.silences.send_if_modified(|left| std::mem::take(left) > 0);
            if silent {
                std::future::pending::<()>().await;
            }
            WASM.into_response()
        }
        Some(digest) if digest == Digest::of(config.as_bytes()).as_str() => config.into_response(),
        Some(_) | None => StatusCode::NOT_FOUND.into_response(),
    }
}
