//! What a guest would answer to probes and hooks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Answers on a port of its own, as it is told to.
#[derive(Clone)]
pub(super) struct FakeGuest {
    port: u16,
    state: Arc<watch::Sender<Answers>>,
}

#[derive(Debug, Default)]
struct Answers {
    /// Paths that were asked for, in order.
    asked: Vec<String>,
    /// To be failed at so often before it is well.
    failures: VecDeque<String>,
    down: bool,
    silent: bool,
}

impl FakeGuest {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let guest = Self { port, state: Arc::default() };
        let router = Router::new().fallback(answer).with_state(guest.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        guest
    }

    /// `httpGet` of a probe or a hook.
    pub(super) fn get(&self, path: &str) -> Value {
        json!({ "path": path, "port": self.port, "host": "127.0.0.1" })
    }

    /// A probe, every second.
    pub(super) fn probe(&self, path: &str, failure_threshold: i32) -> Value {
        json!({ "httpGet": self.get(path), "periodSeconds": 1, "failureThreshold": failure_threshold })
    }

    /// Answers 503 to everything but hooks.
    pub(super) fn set_down(&self, down: bool) {
        self.state.send_modify(|answers| answers.down = down);
    }

    /// Keeps everybody waiting.
    pub(super) fn be_silent(&self) {
        self.state.send_modify(|answers| answers.silent = true);
    }

    /// Answers 503 to the next one who asks for this.
    pub(super) fn fail_once(&self, path: &str) {
        self.state.send_modify(|answers| answers.failures.push_back(path.to_owned()));
    }

    /// How often this was asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.state.borrow().asked.iter().filter(|asked| *asked == path).count()
    }

    /// Waits until this was asked for so often.
    pub(super) async fn until_asked(&self, path: &str, times: usize) {
        let mut state = self.state.subscribe();
        let is = |answers: &Answers| answers.asked.iter().filter(|asked| *asked == path).count() >= times;
        let waited = tokio::time::timeout(Duration::from_secs(20), state.wait_for(is)).await;
        assert!(waited.is_ok(), "not asked {times} times for {path}: {:?}", self.state.borrow().asked);
    }
}

async fn answer(State(guest): State<FakeGuest>, uri: Uri) -> StatusCode {
    let path = uri.path().to_owned();
    let (mut silent, mut fails) = (false, false);
    guest.state.send_modify(|answers| {
        let once = answers.failures.iter().position(|failure| *failure == path);
        fails = once.map(|place| answers.failures.remove(place)).is_some() || (answers.down && path != "/hook");
        silent = answers.silent;
        answers.asked.push(path);
    });
    if silent {
        std::future::pending::<()>().await;
    }
    if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}
