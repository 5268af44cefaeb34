//! All Services of the cluster, for containers' environment. A node may list them (its RBAC role says so).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between tries that failed, doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Follows Services; cheap to clone.
#[derive(Debug, Clone)]
pub struct Services(Arc<watch::Sender<Known>>);

/// By namespace, then by name.
#[derive(Debug, Default)]
struct Known {
    complete: bool,
    by_namespace: HashMap<String, HashMap<String, Arc<Service>>>,
}

impl Services {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Known::default())))
    }

    /// There are none, and that is known.
    pub(super) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(Known { complete: true, ..Known::default() })))
    }

    /// Services of a namespace, and `kubernetes` of namespace `default`; waits for the first list.
    pub async fn of(&self, namespace: &str) -> Vec<Arc<Service>> {
        let mut known = self.0.subscribe();
        let Ok(known) = known.wait_for(|known| known.complete).await else { return Vec::new() };
        let mut services: Vec<_> =
            known.by_namespace.get(namespace).into_iter().flat_map(HashMap::values).cloned().collect();
        if namespace != "default"
            && let Some(kubernetes) = known.by_namespace.get("default").and_then(|names| names.get("kubernetes"))
        {
            services.push(kubernetes.clone());
        }
        services
    }

    /// Lists and watches until `shutdown`.
    pub async fn keep(self, client: Client, shutdown: CancellationToken) {
        let mut events = Box::pin(watcher(Api::<Service>::all(client), watcher::Config::default()));
        let mut initial = Known::default();
        let mut delay = FIRST_RETRY;
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.try_next() => event,
            };
            match event {
                Ok(None) => return,
                Ok(Some(event)) => {
                    delay = FIRST_RETRY;
                    self.take(event, &mut initial);
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "services are not followed; trying again"
                    );
                    if shutdown.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                        return;
                    }
                    delay = (delay * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn take(&self, event: Event<Service>, initial: &mut Known) {
        match event {
            Event::Init => *initial = Known { complete: true, ..Known::default() },
            Event::InitApply(service) => initial.insert(service),
            Event::InitDone => drop(self.0.send_replace(std::mem::take(initial))),
            Event::Apply(service) => self.0.send_modify(|known| known.insert(service)),
            Event::Delete(service) => self.0.send_modify(|known| known.remove(&service)),
        }
    }
}

impl Known {
    fn insert(&mut self, mut service: Service) {
        service.metadata.managed_fields = None;
        let namespace = service.namespace().unwrap_or_default();
        self.by_namespace.entry(namespace).or_default().insert(service.name_any(), Arc::new(service));
    }

    fn remove(&mut self, service: &Service) {
        let namespace = service.namespace().unwrap_or_default();
        if let Some(services) = self.by_namespace.get_mut(&namespace) {
            services.remove(&service.name_any());
            if services.is_empty() {
                self.by_namespace.remove(&namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn service(namespace: &str, name: &str) -> Service {
        let (namespace, name) = (Some(namespace.to_owned()), Some(name.to_owned()));
        Service { metadata: ObjectMeta { namespace, name, ..ObjectMeta::default() }, ..Service::default() }
    }

    async fn names(services: &Services, namespace: &str) -> Vec<String> {
        let mut names: Vec<String> = services.of(namespace).await.iter().map(|service| service.name_any()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_namespace_has_its_own_services_and_the_api_servers() {
        let services = Services::new();
        let mut initial = Known::default();
        for event in [
            Event::Init,
            Event::InitApply(service("default", "kubernetes")),
            Event::InitApply(service("default", "other")),
            Event::InitApply(service("shop", "web")),
            Event::InitDone,
        ] {
            services.take(event, &mut initial);
        }
        assert_eq!(names(&services, "shop").await, ["kubernetes", "web"]);
        assert_eq!(names(&services, "default").await, ["kubernetes", "other"]);
        assert_eq!(names(&services, "empty").await, ["kubernetes"]);
        services.take(Event::Apply(service("shop", "db")), &mut initial);
        services.take(Event::Delete(service("shop", "web")), &mut initial);
        assert_eq!(names(&services, "shop").await, ["db", "kubernetes"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_waits_for_the_first_list() {
        let services = Services::new();
        let mut initial = Known::default();
        services.take(Event::Init, &mut initial);
        services.take(Event::InitApply(service("default", "kubernetes")), &mut initial);
        let early = tokio::time::timeout(Duration::from_secs(60), services.of("shop")).await;
        assert!(early.is_err(), "half a list is no list");
        services.take(Event::InitDone, &mut initial);
        assert_eq!(names(&services, "shop").await, ["kubernetes"]);
    }
}
