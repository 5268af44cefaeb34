//! When events may be told: not in a burst of starts, where each would take what a pod waits for.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// No status was told for so long: nobody waits.
const QUIET: Duration = Duration::from_millis(100);

/// Status goes first, but an event that is so old is told all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// Follows how many pods wait for their status to be told.
#[derive(Debug)]
pub(super) struct Quiet {
    behind: watch::Receiver<usize>,
    since: Option<Instant>,
}

impl Quiet {
    pub(super) fn new(behind: watch::Receiver<usize>) -> Self {
        Self { behind, since: None }
    }

    /// Waits until nobody waits, or until what happened at `happened` may not wait any longer.
    pub(super) async fn wait(&mut self, happened: Instant) {
        let deadline = happened + PATIENCE;
        while Instant::now() < deadline {
            let busy = *self.behind.borrow_and_update() > 0;
            let since = (!busy).then(|| self.since.unwrap_or_else(Instant::now));
            self.since = since;
            let calm = async {
                match since {
                    Some(since) => sleep_until(since + QUIET).await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                biased;
                changed = timeout_at(deadline, self.behind.changed()) => changed,
                () = calm => return,
            };
            self.since = None;
            if !matches!(changed, Ok(Ok(()))) {
                // Too old, or nobody tells any more.
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long an event of this very moment waits, in milliseconds, while `behind` becomes these values at these times.
    async fn waits(changes: &'static [(u64, usize)]) -> u128 {
        let (sender, receiver) = watch::channel(0);
        let mut quiet = Quiet::new(receiver);
        quiet.wait(Instant::now()).await;
        let began = Instant::now();
        tokio::spawn(async move {
            for (at, behind) in changes {
                sleep_until(began + Duration::from_millis(*at)).await;
                sender.send_replace(*behind);
            }
            sleep_until(began + Duration::from_secs(60)).await;
        });
        tokio::task::yield_now().await;
        quiet.wait(began).await;
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_told_at_once_when_all_is_quiet() {
        assert_eq!(waits(&[]).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_while_a_status_waits_and_a_moment_more() {
        assert_eq!(waits(&[(0, 1), (30, 0)]).await, 130);
        assert_eq!(waits(&[(0, 1), (30, 0), (80, 2), (110, 0)]).await, 210);
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_wait_for_ever() {
        assert_eq!(waits(&[(0, 1)]).await, 2_000);
    }
}
