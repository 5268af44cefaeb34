//! Who is it, and may it? (kubelet: `server/auth.go`, KEP-2862)
//!
//! Who: a client certificate of our CA; else a bearer token that the API server knows; else nobody, which is 401.
//! May it: the verb is the method's, the resource our Node with a subresource by path; the API server decides, which is
//! 403 if it denies. Answers are remembered: who for 2 minutes, yes for 5 minutes, no for 30 seconds.

mod attributes;
mod authentication;
mod authorization;
mod client_ca;
mod memory;
mod user;

pub use attributes::{Attributes, attributes};
pub use user::User;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;

use super::config::ServerConfig;
use super::listener::Peer;
use super::reply::refuse;

/// Why access cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file of the client CA.
    #[error("client CA {}: {reason}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Judges requests.
#[derive(Clone)]
pub struct Guard {
    authentication: Arc<authentication::Authentication>,
    authorization: Arc<authorization::Authorizer>,
    node_name: Arc<str>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

impl Guard {
    /// Reads the client CA; asks nobody yet.
    pub(super) fn new(config: &ServerConfig, parts: &super::Parts) -> Result<Self, AccessError> {
        Ok(Self {
            authentication: Arc::new(authentication::Authentication::new(config, parts.client.clone())?),
            authorization: Arc::new(authorization::Authorizer::new(config.authorization, parts.client.clone())),
            node_name: parts.node_name.as_str().into(),
        })
    }
}

/// Lets a request through, or answers 401, 403, or 500 when the API server cannot be asked.
pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let user = match guard.authentication.authenticate(&peer, request.headers()).await {
        Ok(user) => user,
        Err(error) => {
            tracing::debug!(from = ?peer.address, %error, "unauthenticated request");
            return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
        }
    };
    let attributes = attributes(request.method(), request.uri().path());
    // Whatever hangs on authorization is named in the answer as the kubelet names it.
    let asked = format!(
        "user={}, verb={}, resource=nodes, subresource(s)={:?}",
        user.name, attributes.verb, attributes.subresources
    );
    match guard.authorization.authorize(&user, &attributes, &guard.node_name).await {
        Ok(true) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Ok(false) => refuse(StatusCode::FORBIDDEN, format!("Forbidden ({asked})")),
        Err(error) => {
            tracing::warn!(error = %format!("{:#}", anyhow::Error::new(error)), %asked, "cannot ask the API server for authorization");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("Authorization error ({asked})"))
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! API servers for tests: only what the real one cannot do on cue.

    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;
    use serde_json::Value;

    /// One that must not be asked.
    pub(in super::super) fn silent() -> Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            panic!("no request may be sent: {}", request.uri());
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok::<Response<Body>, Infallible>(Response::new(Body::empty()))
        });
        Client::new(service, "default")
    }

    /// One that answers every request with 500.
    pub(in super::super) fn failing() -> Client {
        let service = tower::service_fn(|_request: Request<Body>| async {
            let mut response = Response::new(Body::from(b"{}".to_vec()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, Infallible>(response)
        });
        Client::new(service, "default")
    }

    /// One that answers by path and body, and counts.
    pub(in super::super) fn answering(
        answer: impl Fn(&str, Value) -> Value + Send + Sync + 'static,
    ) -> (Client, impl Fn() -> usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (asked.clone(), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (count, answer) = (count.clone(), answer.clone());
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await.expect("a body");
                let body = serde_json::from_slice(&body).unwrap_or_default();
                Ok::<_, Infallible>(Response::new(Body::from(answer(&path, body).to_string().into_bytes())))
            }
        });
        (Client::new(service, "default"), move || asked.load(Ordering::SeqCst))
    }
}
