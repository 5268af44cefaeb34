//! What the service manager is told: that we are up, that we live, that we go (`sd_notify(3)`). Without one, nothing.

use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::server::Workloads;

/// Says `READY=1` now and `STOPPING=1` at the end; between, if a watchdog waits, `WATCHDOG=1` twice in each of its
/// intervals for as long as pods are being looked after.
pub(crate) async fn keep(workloads: Arc<dyn Workloads>, shutdown: CancellationToken) {
    tell(NotifyState::Ready);
    let pings = async {
        let Some(interval) = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()) else {
            return std::future::pending().await;
        };
        let mut every = tokio::time::interval(interval / 2);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match workloads.healthy() {
                Ok(()) => tell(NotifyState::Watchdog),
                Err(trouble) => tracing::error!(trouble, "the watchdog is not told that we live"),
            }
        }
    };
    let _stopped = shutdown.run_until_cancelled(pings).await;
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "telling the service manager");
    }
}
