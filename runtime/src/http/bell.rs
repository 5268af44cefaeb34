//! How workers tell the io thread that answers are there: once for all that are given until it listens.
//!
//! To wake a task of another thread costs a system call each time. So a worker leaves its answers here, and wakes one
//! task of the io thread, if that has not been woken already; it wakes those who wait, on their own thread.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;

use super::exchange::Shared;

/// See the module.
#[derive(Default)]
pub(super) struct Bell {
    answered: Mutex<Vec<Arc<Shared>>>,
    listener: AtomicWaker,
}

impl Bell {
    /// Says that this exchange has its answer.
    pub(super) fn ring(&self, exchange: Arc<Shared>) {
        let was_silent = {
            let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            answered.push(exchange);
            answered.len() == 1
        };
        if was_silent {
            self.listener.wake();
        }
    }

    /// Wakes who waits for an answer, on the thread that this runs on; never ends.
    pub(super) async fn listen(&self) {
        let mut woken = Vec::new();
        poll_fn(|context| {
            self.listener.register(context.waker());
            std::mem::swap(&mut woken, &mut *self.answered.lock().unwrap_or_else(PoisonError::into_inner));
            woken.drain(..).for_each(|exchange| exchange.wake());
            Poll::<()>::Pending
        })
        .await;
    }
}
