//! Pods side by side: who is admitted, and who waits for whose end.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use ttrpc::r#async::Server;

use super::front::OnStop;
use super::scene::{Scene, is_ready};
use crate::pods::PodRef;
use crate::pods::dispatch::Dispatch;
use crate::pods::sources::{Arrival, Heard, Origin};

/// A dispatcher and its world.
struct Place {
    scene: Scene,
    heard: mpsc::Sender<Heard>,
    dispatch: AbortOnDropHandle<()>,
    /// Those which are kept warm: a pod that begins anew may be put into another.
    fronts: Vec<Server>,
}

impl Place {
    async fn new() -> Self {
        let scene = Scene::new(|_| {}).await;
        let mut fronts = Vec::new();
        for number in 1..4 {
            fronts.push(scene.front.serve(&scene.dir.path().join(format!("run/fronts/{number}"))).await);
        }
        Self::with(scene, fronts)
    }

    fn with(scene: Scene, fronts: Vec<Server>) -> Self {
        let (heard, changes) = mpsc::channel(16);
        let dispatch = Dispatch::new(scene.context(), scene.pods.clone());
        let run = tokio::spawn(dispatch.run(changes, CancellationToken::new()));
        Self { scene, heard, dispatch: AbortOnDropHandle::new(run), fronts }
    }

    /// Another agent in the same world.
    async fn restart(self) -> Self {
        let Self { mut scene, dispatch, fronts, .. } = self;
        dispatch.abort();
        drop(dispatch.await);
        scene.forget_pods();
        Self::with(scene, fronts)
    }

    async fn hear(&self, heard: Heard) {
        self.heard.send(heard).await.unwrap();
    }

    async fn apply(&self, origin: Origin, pod: Pod) -> PodRef {
        let pod_ref = PodRef::of(&pod).unwrap();
        let tell = Some(pod_ref.clone());
        self.hear(Heard::Applied(Arrival { pod_ref: pod_ref.clone(), pod: Arc::new(pod), origin, tell })).await;
        pod_ref
    }

    /// The Node becomes known.
    fn offer(&self, allocatable: Value) {
        let node = json!({ "metadata": { "name": "node-1" }, "status": { "allocatable": allocatable } });
        self.scene.context().node.observe(Arc::new(serde_json::from_value::<Node>(node).unwrap()));
    }

    /// Waits until the pod of this name satisfies this.
    async fn until(&self, what: &str, name: &str, is: impl Fn(&Pod) -> bool) -> Pod {
        let mut seen = None;
        for _ in 0..2000 {
            seen = self.scene.pods.get("shop", name);
            if let Some(pod) = seen.as_deref().filter(|pod| is(pod)) {
                return pod.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}; {seen:#?}")
    }

    async fn until_gone(&self, uid: &str) {
        for _ in 0..2000 {
            if !self.scene.pods.is_known(uid) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{uid} is there still")
    }

    async fn calls(&self, what: &str, is: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut calls = self.scene.front.calls();
        let waited = tokio::time::timeout(Duration::from_secs(20), calls.wait_for(|calls| is(calls))).await;
        waited.map(|calls| calls.unwrap().clone()).unwrap_or_else(|_| panic!("never: {what}; {:?}", self.scene.calls()))
    }
}

fn starts(calls: &[String]) -> usize {
    calls.iter().filter(|call| *call == "start app").count()
}

fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| is_ready(&json!(status)))
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn a_pod_whose_manifest_is_back_while_it_ends_begins_anew_when_it_has_ended() {
    let place = Place::new().await;
    place.offer(json!({ "pods": "9" }));
    let manifest = || place.scene.pod(|_| {});
    let pod = place.apply(Origin::Manifest, manifest()).await;
    place.until("it runs", "web", runs).await;
    place.scene.front.on_stop(OnStop::Ignore);
    place.hear(Heard::Gone(pod)).await;
    place.scene.asked("signal 15 app").await;
    place.apply(Origin::Manifest, manifest()).await;
    // Its mirror has changed.
    place.apply(Origin::Manifest, manifest()).await;
    place.scene.front.end("app", 143);
    let calls = place.calls("a second life", |calls| starts(calls) == 2).await;
    assert_eq!(calls, ["create app", "start app", "signal 15 app", "delete app", "create app", "start app"]);
    let pod = place.until("it runs again", "web", runs).await;
    let status = &pod.status.unwrap().container_statuses.unwrap()[0];
    assert_eq!((status.restart_count, status.last_state.clone().unwrap_or_default().terminated), (0, None));
}

#[tokio::test]
async fn a_manifest_that_comes_and_goes_while_its_pod_ends_leaves_nothing() {
    let place = Place::new().await;
    place.offer(json!({ "pods": "9" }));
    let manifest = || place.scene.pod(|_| {});
    let pod = place.apply(Origin::Manifest, manifest()).await;
    place.until("it runs", "web", runs).await;
    place.scene.front.on_stop(OnStop::Ignore);
    place.hear(Heard::Gone(pod.clone())).await;
    place.scene.asked("signal 15 app").await;
    place.apply(Origin::Manifest, manifest()).await;
    place.hear(Heard::Gone(pod)).await;
    place.scene.front.end("app", 143);
    place.until_gone("uid-1").await;
    assert_eq!(starts(&place.scene.calls()), 1);
}

#[tokio::test]
async fn an_object_that_is_gone_does_not_come_back_with_an_old_list() {
    let place = Place::new().await;
    place.offer(json!({ "pods": "9" }));
    let pod = place.apply(Origin::Api, place.scene.pod(|_| {})).await;
    place.until("it runs", "web", runs).await;
    place.scene.front.on_stop(OnStop::Ignore);
    place.hear(Heard::Gone(pod)).await;
    place.scene.asked("signal 15 app").await;
    place.apply(Origin::Api, place.scene.pod(|_| {})).await;
    place.scene.front.end("app", 143);
    place.until_gone("uid-1").await;
    assert_eq!(starts(&place.scene.calls()), 1);
}

#[tokio::test]
async fn what_is_left_of_a_pod_is_removed_before_its_manifest_is_a_pod_again() {
    let place = Place::new().await;
    place.offer(json!({ "pods": "9" }));
    place.apply(Origin::Manifest, place.scene.pod(|_| {})).await;
    place.until("it runs", "web", runs).await;
    let place = place.restart().await;
    place.scene.front.on_stop(OnStop::Ignore);
    place.hear(Heard::Complete([].into())).await;
    place.scene.asked("signal 15 app").await;
    place.apply(Origin::Manifest, place.scene.pod(|_| {})).await;
    place.scene.front.end("app", 143);
    let calls = place.calls("a second life", |calls| starts(calls) == 2).await;
    let (first, second) = (calls.iter().position(|call| call == "delete app"), calls.len() - 1);
    assert!(first < Some(second - 1), "it was removed before: {calls:?}");
    place.until("it runs and is known", "web", runs).await;
    assert!(place.scene.dir.path().join("root/pods/uid-1").exists());
}

#[tokio::test]
async fn a_pod_that_was_deleted_by_force_leaves_its_name_and_its_claim_to_the_next() {
    let place = Place::new().await;
    place.offer(json!({ "pods": "9", "cpu": "1" }));
    let ports = json!([{ "containerPort": 8080, "hostPort": 8080 }]);
    let wish = |uid: &'static str| {
        let ports = ports.clone();
        move |pod: &mut Value| {
            pod["metadata"]["uid"] = json!(uid);
            pod["spec"]["containers"][0]["ports"] = ports;
            pod["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "1" } });
        }
    };
    let first = place.apply(Origin::Api, place.scene.pod(wish("uid-1"))).await;
    place.until("it runs", "web", runs).await;
    place.scene.front.on_stop(OnStop::Ignore);
    place.hear(Heard::Gone(first)).await;
    place.apply(Origin::Api, place.scene.pod(wish("uid-2"))).await;
    place.until("the next one runs", "web", |pod| uid(pod) == "uid-2" && runs(pod)).await;
    assert!(place.scene.pods.is_known("uid-1"), "the one before has not ended");
}

#[tokio::test]
async fn a_pod_that_is_rejected_takes_nothing_from_those_after_it() {
    let place = Place::new().await;
    let wish = |name: &'static str, cpu: &'static str| {
        move |pod: &mut Value| {
            (pod["metadata"]["name"], pod["metadata"]["uid"]) = (json!(name), json!(name));
            pod["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": cpu } });
        }
    };
    place.apply(Origin::Api, place.scene.pod(wish("large", "2"))).await;
    place.apply(Origin::Api, place.scene.pod(wish("small", "1"))).await;
    place.hear(Heard::Complete(["large".into(), "small".into()].into())).await;
    place.offer(json!({ "pods": "1", "cpu": "1" }));
    let reason = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.clone());
    place.until("rejected", "large", |pod| reason(pod).as_deref() == Some("OutOfcpu")).await;
    place.until("it runs", "small", runs).await;
}
