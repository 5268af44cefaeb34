//! Tell: the status, once it is worth telling, and the end of the API object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use samara_core::pod::{PodActions, status};
use samara_core::reasons::waiting;
use samara_inside::remove_directory_at;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{Removal, SandboxState, Worker};
use crate::pods::dispatch::ApiObject;
use crate::pods::logs;
use crate::status::Urgency;

impl Worker {
    pub(super) fn tell(&mut self, actions: &PodActions, now: Timestamp) {
        if self.object == ApiObject::Gone {
            return;
        }
        let down = matches!(self.sandbox, SandboxState::Down);
        if actions.finished && !down {
            return;
        }
        let status = status(&self.pod, &self.observed, &self.told, now);
        if status != self.told || self.untold {
            let on_its_way = is_on_its_way(&status);
            if on_its_way && Instant::now() < self.hold_until {
                return;
            }
            let pending = status.phase.as_deref() == Some("Pending");
            let urgency = if on_its_way && pending { Urgency::Idle } else { Urgency::Now };
            debug!(phase = status.phase, "telling");
            self.cell.set_status(status.clone());
            if let Some(object) = &self.tell {
                self.context.status.tell(object.clone(), status.clone(), urgency);
                self.untold = false;
            }
            self.told = status;
            self.read_back = false;
        }
        if down && self.pod.metadata.deletion_timestamp.is_some() && self.removal == Removal::NotYet {
            self.removal = Removal::Asked;
            self.tell.iter().for_each(|object| self.context.status.remove(object.clone()));
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.object == ApiObject::Gone && matches!(self.sandbox, SandboxState::Down)
    }

    pub(super) fn forget(&self) {
        self.tell.iter().for_each(|object| self.context.status.forget(object.clone()));
        self.context.images.forget(&self.pod_ref.uid);
        self.context.starts.forget(&self.pod_ref.uid);
        logs::remove(&self.context.layout, &self.pod_ref);
        drop(remove_directory_at(&self.context.layout.pod_bundles(&self.pod_ref.uid)));
        info!("pod is gone");
    }
}

/// Nothing is wrong, and more is about to come: its status need not be told yet.
fn is_on_its_way(status: &PodStatus) -> bool {
    let usual =
        |reason: Option<&str>| matches!(reason, None | Some(waiting::CONTAINER_CREATING | waiting::POD_INITIALIZING));
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let mut statuses = statuses.into_iter().peekable();
    let terminal = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let reason = |one: &k8s_openapi::api::core::v1::ContainerStatus| {
        one.state.as_ref().and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.clone())
    };
    !terminal && !ready && statuses.peek().is_some() && statuses.all(|one| usual(reason(one).as_deref()))
}
