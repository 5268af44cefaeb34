//! Requests without pause, of which each one counts: nothing is tried twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Workers of a load.
const WORKERS: usize = 4;
/// Pause of a worker between two requests.
const PACE: Duration = Duration::from_millis(10);
/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);

/// Which way requests take.
#[derive(Debug, Clone)]
pub enum Way {
    /// Straight to a ready endpoint of the Service, as a kube-proxy or an ingress does.
    Endpoints,
    /// Through the API server's service proxy.
    ApiServer,
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often each text was the first line of a 200.
    pub answers: BTreeMap<String, usize>,
    /// Everything else, in words.
    pub failures: Vec<String>,
}

impl Tally {
    /// Answers in all.
    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }

    /// Answers whose text holds a word.
    pub fn with(&self, word: &str) -> usize {
        self.answers.iter().filter(|(text, _)| text.contains(word)).map(|(_, count)| count).sum()
    }

    /// An error that names the first failures, if there is one.
    pub fn no_failure(&self) -> Result<()> {
        let Some(first) = self.failures.first() else { return Ok(()) };
        bail!(
            "{} of {} requests failed; the first: {first}",
            self.failures.len(),
            self.failures.len() + self.answered()
        )
    }

    fn add(mut self, other: Self) -> Self {
        for (text, count) in other.answers {
            *self.answers.entry(text).or_default() += count;
        }
        self.failures.extend(other.failures);
        self
    }
}

/// A load that runs until it is finished.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    workers: JoinSet<Tally>,
    answered: Arc<AtomicUsize>,
    follower: JoinSet<()>,
}

impl Load {
    /// Starts asking `service` for `/`. Returns when there is a ready endpoint.
    pub async fn start(client: &Client, namespace: &str, service: &str, way: Way) -> Result<Self> {
        let (sender, mut endpoints) = watch::channel(Vec::new());
        let mut follower = JoinSet::new();
        follower.spawn(follow(Api::namespaced(client.clone(), namespace), service.to_owned(), sender));
        let found = tokio::time::timeout(Duration::from_secs(60), endpoints.wait_for(|all| !all.is_empty())).await;
        found
            .with_context(|| format!("waited in vain for a ready endpoint of {service}"))?
            .context("the watch of endpoints ended")?;

        let stop = CancellationToken::new();
        let answered = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let target = match way {
                Way::Endpoints => Target::Endpoints(endpoints.clone()),
                Way::ApiServer => Target::ApiServer(
                    client.clone(),
                    format!("/api/v1/namespaces/{namespace}/services/http:{service}:80/proxy/"),
                ),
            };
            workers.spawn(work(target, stop.clone(), Arc::clone(&answered)));
        }
        Ok(Self { stop, workers, answered, follower })
    }

    /// Requests that were answered until now.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more are answered.
    pub async fn more(&self, count: usize) -> Result<()> {
        let goal = self.answered() + count;
        crate::wait::until(format!("{count} more answers"), Duration::from_secs(60), async || {
            Ok(crate::wait::Seen::when(self.answered() >= goal, format!("{} of {goal}", self.answered())))
        })
        .await
    }

    /// Ends it after the requests that are under way.
    pub async fn finish(mut self) -> Tally {
        self.stop.cancel();
        let mut tally = Tally::default();
        while let Some(worker) = self.workers.join_next().await {
            tally = match worker {
                Ok(more) => tally.add(more),
                Err(error) => tally.add(Tally { failures: vec![error.to_string()], ..Tally::default() }),
            };
        }
        self.follower.abort_all();
        tally
    }
}

enum Target {
    Endpoints(watch::Receiver<Vec<SocketAddr>>),
    ApiServer(Client, String),
}

async fn work(target: Target, stop: CancellationToken, answered: Arc<AtomicUsize>) -> Tally {
    let mut tally = Tally::default();
    let mut turn = 0;
    while !stop.is_cancelled() {
        turn += 1;
        let outcome = tokio::time::timeout(LIMIT, request(&target, turn)).await;
        match outcome.unwrap_or_else(|_| bail!("no answer within {LIMIT:?}")) {
            Ok(text) => {
                *tally.answers.entry(text).or_default() += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => tally.failures.push(format!("{error:#}")),
        }
        tokio::time::sleep(PACE).await;
    }
    tally
}

async fn request(target: &Target, turn: usize) -> Result<String> {
    let text = match target {
        Target::Endpoints(endpoints) => {
            let all = endpoints.borrow().clone();
            let Some(endpoint) = all.get(turn % all.len().max(1)).copied() else { bail!("no ready endpoint") };
            get(endpoint, "/").await.with_context(|| format!("GET http://{endpoint}/"))?
        }
        Target::ApiServer(client, path) => {
            client.request_text(http::Request::get(path).body(Vec::new())?).await.context("through the API server")?
        }
    };
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// One GET over a connection of its own; anything but 200 is an error.
pub async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let (status, body) = ask(address, path).await?;
    if status != http::StatusCode::OK {
        bail!("answered {status}: {body}");
    }
    Ok(body)
}

/// One GET over a connection of its own: status and body.
pub async fn ask(address: SocketAddr, path: &str) -> Result<(http::StatusCode, String)> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("handshake")?;
    let request = hyper::Request::get(path)
        .header("host", address.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await.context("send")?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context("read the body")?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        outcome = &mut exchange => outcome,
        _ = &mut connection => exchange.await,
    }
}

/// Keeps the ready endpoints of a Service.
async fn follow(api: Api<EndpointSlice>, service: String, sender: watch::Sender<Vec<SocketAddr>>) {
    let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
    let (store, writer) = reflector::store();
    let events = reflector(writer, watcher(api, config).default_backoff());
    events
        .for_each(|_| {
            let mut all: Vec<_> = store.state().iter().flat_map(|slice| ready(slice)).collect();
            all.sort();
            sender.send_replace(all);
            std::future::ready(())
        })
        .await;
}

fn ready(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let port = slice.ports.iter().flatten().find_map(|port| u16::try_from(port.port?).ok());
    let Some(port) = port else { return Vec::new() };
    let good = slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    good.flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|address| Some(SocketAddr::new(address.parse().ok()?, port)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(ready: serde_json::Value) -> EndpointSlice {
        let json = serde_json::json!({
            "addressType": "IPv4", "metadata": {},
            "ports": [{ "port": 8080 }],
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": ready } }],
        });
        serde_json::from_value(json).expect("slice")
    }

    #[test]
    fn an_endpoint_that_is_not_ready_is_not_asked() {
        assert_eq!(ready(&slice(false.into())), []);
        assert_eq!(ready(&slice(true.into())), [SocketAddr::from(([10, 0, 0, 1], 8080))]);
        assert_eq!(ready(&slice(serde_json::Value::Null)).len(), 1, "absent means ready");
    }

    #[test]
    fn one_failure_is_a_failure() {
        let tally = Tally { answers: [("ok".into(), 999)].into(), failures: vec!["refused".into()] };
        let text = tally.no_failure().expect_err("a failure").to_string();
        assert!(text.contains("1 of 1000") && text.contains("refused"), "{text}");
    }
}
