//! RuntimeClasses, followed from the first pod on that names one.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Between tries that failed, doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// Whoever asks waits so long for the first list.
const PATIENCE: Duration = Duration::from_secs(2);

/// Handlers by the class's name; `None` until they are known.
type Known = Option<HashMap<String, String>>;

/// Which handler a class means. Cheap to clone.
#[derive(Clone)]
pub struct RuntimeClasses(Arc<Inner>);

struct Inner {
    client: Option<Client>,
    followed: OnceLock<(watch::Receiver<Known>, AbortOnDropHandle<()>)>,
}

/// A class that no pod can run by (kubelet: `runtimeclass_manager.go`; containerd's words for the handler).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    #[error("runtimeclass.node.k8s.io {0:?} not found")]
    NotFound(String),
    #[error("failed to lookup RuntimeClass {0}: the API server has not told of any yet")]
    Unknown(String),
    #[error("failed to get sandbox runtime: no runtime for {0:?} is configured")]
    Handler(String),
}

impl Debug for RuntimeClasses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RuntimeClasses")
    }
}

impl RuntimeClasses {
    /// Nothing is read before somebody asks. Without an API server there is nobody to say what a class means, and every one
    /// is good.
    pub(super) fn new(client: Option<Client>) -> Self {
        Self(Arc::new(Inner { client, followed: OnceLock::new() }))
    }

    /// Whether one of `handlers` runs pods of this class.
    pub async fn check(&self, class: &str, handlers: &[String]) -> Result<(), ClassError> {
        let Some(client) = &self.0.client else { return Ok(()) };
        let (known, _) = self.0.followed.get_or_init(|| {
            let (sender, receiver) = watch::channel(None);
            (receiver, AbortOnDropHandle::new(tokio::spawn(follow(client.clone(), sender))))
        });
        let mut known = known.clone();
        let unknown = || ClassError::Unknown(class.to_owned());
        let known = tokio::time::timeout(PATIENCE, known.wait_for(Option::is_some)).await;
        let known = known.map_err(|_| unknown())?.map_err(|_| unknown())?;
        let handler = known.as_ref().and_then(|known| known.get(class));
        let handler = handler.ok_or_else(|| ClassError::NotFound(class.to_owned()))?;
        handlers.contains(handler).then_some(()).ok_or_else(|| ClassError::Handler(handler.clone()))
    }
}

async fn follow(client: Client, known: watch::Sender<Known>) {
    let mut events = Box::pin(watcher(Api::<RuntimeClass>::all(client), watcher::Config::default()));
    let mut initial = HashMap::new();
    let mut delay = FIRST_RETRY;
    loop {
        match events.try_next().await {
            Ok(None) => return,
            Ok(Some(event)) => {
                delay = FIRST_RETRY;
                match event {
                    Event::Init => initial.clear(),
                    Event::InitApply(class) => drop(initial.insert(class.name_any(), class.handler)),
                    Event::InitDone => drop(known.send_replace(Some(std::mem::take(&mut initial)))),
                    Event::Apply(class) => known.send_modify(|known| {
                        known.get_or_insert_default().insert(class.name_any(), class.handler);
                    }),
                    Event::Delete(class) => known.send_modify(|known| {
                        known.get_or_insert_default().remove(&class.name_any());
                    }),
                }
            }
            Err(error) => {
                tracing::debug!(%error, "RuntimeClasses are not followed; trying again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LAST_RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    fn classes(status: u16) -> RuntimeClasses {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            assert_eq!(request.uri().path(), "/apis/node.k8s.io/v1/runtimeclasses");
            if request.uri().query().is_some_and(|query| query.contains("watch=")) {
                std::future::pending::<()>().await;
            }
            let class = |name: &str, handler: &str| json!({ "metadata": { "name": name }, "handler": handler });
            let answer = json!({
                "metadata": { "resourceVersion": "1" },
                "items": [class("samara", "samara"), class("ours-too", "samara"), class("sandboxed", "kata")],
            });
            Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()))
        });
        RuntimeClasses::new(Some(Client::new(service, "default")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_is_good_if_its_handler_is_ours() {
        let classes = classes(200);
        let handlers = ["samara".to_owned()];
        let of = |class| classes.check(class, &handlers);
        assert_eq!(of("samara").await, Ok(()));
        assert_eq!(of("ours-too").await, Ok(()));
        let told = |error: Result<(), ClassError>| error.unwrap_err().to_string();
        assert_eq!(told(of("sandboxed").await), "failed to get sandbox runtime: no runtime for \"kata\" is configured");
        assert_eq!(told(of("typo").await), "runtimeclass.node.k8s.io \"typo\" not found");
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_knows_the_classes_no_pod_of_one_runs_and_without_an_api_server_every_one_does() {
        let error = classes(500).check("samara", &["samara".to_owned()]).await.unwrap_err();
        assert_eq!(error, ClassError::Unknown("samara".to_owned()));
        assert_eq!(RuntimeClasses::new(None).check("any", &[]).await, Ok(()));
    }
}
