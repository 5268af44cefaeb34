//! Carries the queue out.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span, warn};

use super::files::StatusFiles;
use super::patch::patch;
use super::queue::{Outcome, Queue, Request, Urgency};
use crate::pods::PodRef;
use crate::starts::{Phase, Starts};

/// Takes statuses; never waits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusWriter(mpsc::UnboundedSender<Wish>);

/// The sending half.
#[derive(Debug)]
pub struct StatusLoop {
    wishes: mpsc::UnboundedReceiver<Wish>,
    behind: watch::Sender<usize>,
}

#[derive(Debug)]
enum Wish {
    Tell(PodRef, Box<PodStatus>, Urgency),
    Remove(PodRef),
    Forget(PodRef),
}

impl StatusWriter {
    /// A writer and the loop that sends what it takes.
    pub fn new() -> (Self, StatusLoop) {
        let (sender, wishes) = mpsc::unbounded_channel();
        (Self(sender), StatusLoop { wishes, behind: watch::Sender::new(0) })
    }

    /// The pod's status is now this. Bounded: one for each pod is kept.
    pub fn tell(&self, pod: PodRef, status: PodStatus, urgency: Urgency) {
        drop(self.0.send(Wish::Tell(pod, Box::new(status), urgency)));
    }

    /// Deletes the API object (grace 0, this UID only) after its last status was taken.
    pub fn remove(&self, pod: PodRef) {
        drop(self.0.send(Wish::Remove(pod)));
    }

    /// The API object is gone.
    pub fn forget(&self, pod: PodRef) {
        drop(self.0.send(Wish::Forget(pod)));
    }
}

impl StatusLoop {
    /// How many pods wait to be told of.
    pub fn behind(&self) -> watch::Receiver<usize> {
        self.behind.subscribe()
    }

    /// Without an API server: writes into files until `shutdown`.
    pub async fn run_alone(mut self, files: StatusFiles, starts: Starts, shutdown: CancellationToken) {
        while let Some(Some(wish)) = shutdown.run_until_cancelled(self.wishes.recv()).await {
            let done = match wish {
                Wish::Tell(pod, status, _) => {
                    if is_ready(&status) {
                        starts.ready(&pod.uid);
                    }
                    files.write(&pod, *status)
                }
                Wish::Forget(pod) => files.remove(&pod.uid),
                // Its object is its manifest, which is its owner's.
                Wish::Remove(_) => Ok(()),
            };
            if let Err(error) = done {
                warn!(%error, "a pod's status could not be written");
            }
        }
    }

    /// Sends until `shutdown`.
    pub async fn run(mut self, client: Client, starts: Starts, shutdown: CancellationToken) {
        let mut queue = Queue::default();
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(request) = queue.next(Instant::now()) {
                under_way.push(send(client.clone(), starts.clone(), request));
            }
            self.behind.send_if_modified(|behind| std::mem::replace(behind, queue.behind()) != queue.behind());
            let wake_at = queue.wake_at();
            let wake = async {
                match wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(wish) = self.wishes.recv() => take(&mut queue, wish),
                Some((request, outcome)) = under_way.next() => queue.done(&request, outcome, Instant::now()),
                () = wake => {}
            }
            // A burst of wishes is taken as a whole, so that only the newest of each pod is sent.
            while let Ok(wish) = self.wishes.try_recv() {
                take(&mut queue, wish);
            }
        }
    }
}

fn take(queue: &mut Queue, wish: Wish) {
    match wish {
        Wish::Tell(pod, status, urgency) => queue.tell(pod, *status, urgency),
        Wish::Remove(pod) => queue.remove(pod),
        Wish::Forget(pod) => queue.forget(&pod.uid),
    }
}

async fn send(client: Client, starts: Starts, request: Request) -> (Request, Outcome) {
    let (Request::Patch(pod, _) | Request::Delete(pod)) = &request;
    let api = Api::<Pod>::namespaced(client, &pod.namespace);
    let span = debug_span!("tell", pod = %pod);
    let ready = matches!(&request, Request::Patch(_, status) if is_ready(status));
    let began = std::time::Instant::now();
    let measured = starts.measure(&pod.uid, if ready { Phase::Ready } else { Phase::Status }, None);
    let result = async {
        match &request {
            Request::Patch(_, status) => {
                let patch = Patch::Strategic(patch(&pod.uid, status));
                api.patch_status(&pod.name, &PatchParams::default(), &patch).await.map(drop)
            }
            Request::Delete(_) => {
                let preconditions = Preconditions { uid: Some(pod.uid.to_string()), ..Preconditions::default() };
                let now = DeleteParams::default().grace_period(0).preconditions(preconditions);
                api.delete(&pod.name, &now).await.map(drop)
            }
        }
    }
    .instrument(span)
    .await;
    drop(measured);
    let outcome = outcome(&api, pod, result).await;
    if matches!((&request, &outcome), (Request::Patch(..), Outcome::Taken)) {
        crate::metrics::agent().operations.status_told(began.elapsed());
    }
    if ready && outcome == Outcome::Taken {
        starts.ready(&pod.uid);
    }
    (request, outcome)
}

fn is_ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

async fn outcome(api: &Api<Pod>, pod: &PodRef, result: kube::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Taken,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            tracing::debug!(%pod, message = status.message, "the pod is gone");
            Outcome::Gone
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            tracing::debug!(%pod, message = status.message, "another pod has the name, or others write this one");
            after_conflict(pod, api.get_opt(&pod.name).await)
        }
        // The same again would be refused again.
        Err(kube::Error::Api(status)) if status.code == 422 => {
            warn!(%pod, message = status.message, "the API server finds this status invalid");
            Outcome::Taken
        }
        Err(error) => {
            warn!(%pod, error = &error as &dyn std::error::Error, "status not told; trying again");
            Outcome::Again
        }
    }
}

/// A patch or a delete that names the UID is refused when another pod has the name, and a patch also when others write the
/// pod again and again while the API server applies it.
fn after_conflict(pod: &PodRef, there: kube::Result<Option<Pod>>) -> Outcome {
    match there {
        Ok(Some(there)) if there.metadata.uid.as_deref() == Some(&*pod.uid) => Outcome::Again,
        Ok(_) => Outcome::Gone,
        Err(_) => Outcome::Again,
    }
}
