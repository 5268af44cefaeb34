//! An API server that knows one namespace: ConfigMaps that come and go, tokens, and what the node tells of its pod.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::{BroadcastStream, WatchStream};

const HOUR: Duration = Duration::from_secs(3600);

/// What it was told, newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) statuses: Vec<Value>,
    /// Reason and message.
    pub(super) events: Vec<(String, String)>,
    pub(super) deletes: usize,
    /// Requests for a token of a service account.
    pub(super) tokens: usize,
}

/// The scripted API server.
#[derive(Clone)]
pub(super) struct FakeApi {
    config_maps: Arc<Mutex<BTreeMap<String, Value>>>,
    changes: broadcast::Sender<String>,
    services: watch::Sender<Vec<Value>>,
    told: watch::Sender<Told>,
    /// Requests are refused while this is set.
    away: Arc<Mutex<bool>>,
    first_token_life: Arc<Mutex<Duration>>,
    refuses_tokens: Arc<Mutex<bool>>,
    /// Patches of a status and deletes that are refused with a conflict, and the UID of the pod that is there.
    conflicts: Arc<Mutex<(usize, &'static str)>>,
}

impl FakeApi {
    pub(super) fn new() -> Self {
        Self {
            config_maps: Arc::default(),
            changes: broadcast::Sender::new(16),
            services: watch::Sender::default(),
            told: watch::Sender::default(),
            away: Arc::default(),
            first_token_life: Arc::new(Mutex::new(HOUR)),
            refuses_tokens: Arc::default(),
            conflicts: Arc::default(),
        }
    }

    pub(super) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { api.answer(request).await }
        });
        kube::Client::new(service, "shop")
    }

    pub(super) fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    pub(super) fn set_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// How long the first token is good; the others are for an hour.
    pub(super) fn set_first_token_life(&self, life: Duration) {
        *self.first_token_life.lock().unwrap() = life;
    }

    /// So many patches of a status and deletes meet with a conflict; `uid` is the pod that has the name.
    pub(super) fn conflict(&self, times: usize, uid: &'static str) {
        *self.conflicts.lock().unwrap() = (times, uid);
    }

    fn conflicts(&self) -> bool {
        let (left, _) = &mut *self.conflicts.lock().unwrap();
        let conflicts = *left > 0;
        *left = left.saturating_sub(1);
        conflicts
    }

    pub(super) fn refuse_tokens(&self) {
        *self.refuses_tokens.lock().unwrap() = true;
    }

    pub(super) fn put_config_map(&self, name: &str, data: Value) {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": { "name": name, "namespace": "shop", "resourceVersion": "2" },
        });
        let known = self.config_maps.lock().unwrap().insert(name.to_owned(), map.clone()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        drop(self.changes.send(json!({ "type": kind, "object": map }).to_string()));
    }

    /// A Service of the namespace, with one port.
    pub(super) fn add_service(&self, name: &str, address: &str, port: u16) {
        self.services.send_modify(|services| {
            services.push(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": name, "namespace": "shop", "resourceVersion": "3" },
                "spec": { "clusterIP": address, "ports": [{ "port": port }] },
            }));
        });
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let sent: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if *self.away.lock().unwrap() {
            return Ok(respond(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({ "kind": "Status", "code": 503, "message": "away" }),
            ));
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        Ok(match (&parts.method, last) {
            (&Method::GET, "configmaps") if query.contains("watch=") => self.watch(),
            (&Method::GET, "services") if query.contains("watch=") => self.watch_services(),
            (&Method::GET, _) if query.contains("watch=") => endless(futures::stream::pending().boxed()),
            (&Method::GET, "configmaps") => {
                let name = query.split("metadata.name%3D").nth(1).and_then(|rest| rest.split('&').next());
                let all = self.config_maps.lock().unwrap();
                respond(StatusCode::OK, &list("ConfigMapList", all.get(name.unwrap_or_default()).into_iter().collect()))
            }
            (&Method::GET, "services") => respond(StatusCode::OK, &list("ServiceList", Vec::new())),
            (&Method::GET, "secrets") => respond(StatusCode::OK, &list("SecretList", Vec::new())),
            (&Method::PATCH, "status") | (&Method::DELETE, _) if self.conflicts() => {
                let conflict = json!({ "kind": "Status", "code": 409, "reason": "Conflict", "message": "modified" });
                respond(StatusCode::CONFLICT, &conflict)
            }
            (&Method::GET, "web") => {
                let uid = self.conflicts.lock().unwrap().1;
                let metadata = json!({ "name": "web", "namespace": "shop", "uid": uid });
                respond(StatusCode::OK, &json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata }))
            }
            (&Method::PATCH, "status") => {
                self.told.send_modify(|told| told.statuses.push(as_kept(&sent["status"])));
                respond(StatusCode::OK, &json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {} }))
            }
            (&Method::POST, "token") => {
                self.told.send_modify(|told| told.tokens += 1);
                let number = self.told.borrow().tokens;
                if *self.refuses_tokens.lock().unwrap() {
                    let refusal = json!({ "kind": "Status", "code": 422, "message": "no token" });
                    return Ok(respond(StatusCode::UNPROCESSABLE_ENTITY, &refusal));
                }
                let life = if number == 1 { *self.first_token_life.lock().unwrap() } else { HOUR };
                let expires = jiff::Timestamp::now() + life;
                let status = json!({ "token": format!("token {number}"), "expirationTimestamp": expires.to_string() });
                respond(
                    StatusCode::CREATED,
                    &json!({
                        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
                        "spec": { "audiences": [] }, "status": status,
                    }),
                )
            }
            (&Method::POST, "events") | (&Method::PATCH, _) => {
                let text = |field: &str| sent[field].as_str().unwrap_or_default().to_owned();
                self.told.send_modify(|told| told.events.push((text("reason"), text("message"))));
                respond(
                    StatusCode::CREATED,
                    &json!({ "apiVersion": "v1", "kind": "Event", "metadata": {}, "involvedObject": {} }),
                )
            }
            (&Method::DELETE, _) => {
                assert_eq!(sent["gracePeriodSeconds"], 0);
                assert_eq!(sent["preconditions"]["uid"], "uid-1");
                self.told.send_modify(|told| told.deletes += 1);
                respond(
                    StatusCode::OK,
                    &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }),
                )
            }
            (method, _) => panic!("unexpected {method} {path}?{query}"),
        })
    }

    /// All of them, again and again: whoever begins late misses none.
    fn watch_services(&self) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let line = |one| format!("{}\n", json!({ "type": "ADDED", "object": one }));
        let lines = WatchStream::new(self.services.subscribe())
            .map(move |services| services.into_iter().map(line).collect::<String>())
            .filter(|lines| std::future::ready(!lines.is_empty()));
        endless(lines.boxed())
    }

    fn watch(&self) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let lines = BroadcastStream::new(self.changes.subscribe());
        endless(lines.filter_map(|line| async { Some(format!("{}\n", line.ok()?)) }).boxed())
    }
}

/// A status without the directives of a strategic merge patch.
fn as_kept(status: &Value) -> Value {
    let mut status = status.clone();
    for list in
        status.as_object_mut().into_iter().flat_map(|fields| fields.values_mut()).filter_map(Value::as_array_mut)
    {
        list.retain(|entry| entry.get("$patch").is_none());
    }
    status
}

fn list(kind: &str, items: Vec<&Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items })
}

fn respond(status: StatusCode, body: &Value) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(status).body(UnsyncBoxBody::new(body)).unwrap()
}

fn endless(lines: futures::stream::BoxStream<'static, String>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let frames = lines.map(|line| Ok(Frame::data(Bytes::from(line))));
    Response::new(UnsyncBoxBody::new(StreamBody::new(frames)))
}
