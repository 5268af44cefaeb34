//! Requests on their way from the io thread to the workers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::answer::Job;

/// Requests that may wait for a worker; past that the answer is 503.
const LONGEST: usize = 1024;

/// First come, first served, by whichever worker is free: one that computes takes none.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// Whether there was room.
    pub(super) fn push(&self, job: Job) -> bool {
        let was_empty = {
            let mut state = self.lock();
            if state.closed || state.jobs.len() >= LONGEST {
                return false;
            }
            state.jobs.push_back(job);
            state.jobs.len() == 1
        };
        // All of them: the one that waits longest may have begun to compute in another request, and would not look.
        // If there was a job before this one, whoever waits has been told of it and has yet to look.
        if was_empty {
            self.arrived.notify_waiters();
        }
        true
    }

    /// The next job whose client still waits; `None` once closed.
    pub(super) async fn pull(&self) -> Option<Job> {
        loop {
            // Before the look, so that what arrives after it is heard of.
            let arrived = self.arrived.notified();
            {
                let mut state = self.lock();
                while let Some(job) = state.jobs.pop_front() {
                    if job.is_wanted() {
                        return Some(job);
                    }
                }
                if state.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// No more requests: workers end when they have done what they have.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
