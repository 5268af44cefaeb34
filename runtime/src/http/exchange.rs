//! One request's exchange between the io thread, which asks, and a worker, which answers.
//!
//! ```text
//! Awaited ──give──▶ Held ──release──▶ Released ──▶ Taken by the asker
//! ```
//!
//! An answer is held until the guest waits or returns, so that what it has said by then goes out in one piece.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use http::Response;
use wasmtime_wasi_http::WasiBody;

use super::answer::{failed, gathered};
use super::bell::Bell;

/// A new exchange: who asks, and who promises to answer and rings the bell then.
pub(super) fn exchange(bell: &Arc<Bell>) -> (Asker, Promise) {
    let shared = Arc::new(Shared {
        answer: Mutex::new(Answer::Awaited),
        answered: AtomicWaker::new(),
        gone: AtomicBool::new(false),
        left: AtomicWaker::new(),
        bell: Arc::clone(bell),
    });
    (Asker(Arc::clone(&shared)), Promise(Reply(shared)))
}

/// What both ends share.
pub(super) struct Shared {
    answer: Mutex<Answer>,
    /// The asker waits for the answer.
    answered: AtomicWaker,
    /// Nobody waits for the answer, or for the rest of it, any more.
    gone: AtomicBool,
    /// The worker waits for that.
    left: AtomicWaker,
    bell: Arc<Bell>,
}

enum Answer {
    Awaited,
    Held(Response<WasiBody>),
    Released(Response<WasiBody>),
    Taken,
}

impl Shared {
    /// Wakes the asker.
    pub(super) fn wake(&self) {
        self.answered.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The io thread's end. When it is dropped, answered or not, the guest is told that nobody reads on.
pub(super) struct Asker(Arc<Shared>);

impl Asker {
    /// The answer; [`Promise`] makes sure that there is one.
    pub(super) async fn answer(&self) -> Response<WasiBody> {
        poll_fn(|context| {
            self.0.answered.register(context.waker());
            let mut answer = self.0.lock();
            match std::mem::replace(&mut *answer, Answer::Taken) {
                Answer::Released(response) => Poll::Ready(response),
                other @ (Answer::Awaited | Answer::Held(_) | Answer::Taken) => {
                    *answer = other;
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
        self.0.left.wake();
    }
}

/// A handle by which an answer may be given: the first one counts.
#[derive(Clone)]
pub(super) struct Reply(Arc<Shared>);

impl Reply {
    /// The first answer counts.
    pub(super) fn give(&self, response: Response<WasiBody>) {
        let mut answer = self.0.lock();
        if matches!(*answer, Answer::Awaited) {
            *answer = Answer::Held(response);
        }
    }

    /// Whether there is an answer.
    pub(super) fn is_given(&self) -> bool {
        !matches!(*self.0.lock(), Answer::Awaited)
    }

    /// Lets a given answer go.
    pub(super) fn release(&self) {
        let mut answer = self.0.lock();
        match std::mem::replace(&mut *answer, Answer::Taken) {
            Answer::Held(response) => {
                *answer = Answer::Released(gathered(response));
                drop(answer);
                self.0.bell.ring(Arc::clone(&self.0));
            }
            other @ (Answer::Awaited | Answer::Released(_) | Answer::Taken) => *answer = other,
        }
    }

    /// Whether nobody waits any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.gone.load(Ordering::Acquire)
    }

    /// Ready when nobody waits any more.
    pub(super) fn poll_abandoned(&self, context: &Context<'_>) -> Poll<()> {
        self.0.left.register(context.waker());
        if self.is_abandoned() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The worker's end: whatever becomes of the request, it is answered in the end.
pub(super) struct Promise(Reply);

impl Promise {
    /// A handle on it.
    pub(super) fn reply(&self) -> &Reply {
        &self.0
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.0.is_given() {
            self.0.give(failed());
        }
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer::plain;
    use http::StatusCode;

    /// With somebody who listens to the bell.
    fn begun() -> (Asker, Promise) {
        let bell = Arc::new(Bell::default());
        let exchange = exchange(&bell);
        tokio::spawn(async move { bell.listen().await });
        exchange
    }

    fn ok() -> Response<WasiBody> {
        plain(StatusCode::OK, "ok")
    }

    #[tokio::test]
    async fn an_answer_is_held_until_it_is_released() {
        let (asker, promise) = begun();
        let mut answer = std::pin::pin!(asker.answer());
        promise.reply().give(ok());
        assert!(futures::poll!(&mut answer).is_pending());
        promise.reply().release();
        assert_eq!(answer.await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn the_first_answer_counts() {
        let (asker, promise) = begun();
        promise.reply().clone().give(ok());
        promise.reply().give(failed());
        drop(promise);
        assert_eq!(asker.answer().await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_broken_promise_is_a_failure_and_wakes_who_waits() {
        let (asker, promise) = begun();
        let waiting = tokio::spawn(async move { asker.answer().await.status() });
        tokio::task::yield_now().await;
        drop(promise);
        assert_eq!(waiting.await.unwrap(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn the_worker_hears_that_nobody_waits() {
        let (asker, promise) = begun();
        let reply = promise.reply().clone();
        let waiting = tokio::spawn(async move { poll_fn(|context| reply.poll_abandoned(context)).await });
        tokio::task::yield_now().await;
        assert!(!promise.reply().is_abandoned());
        drop(asker);
        waiting.await.unwrap();
    }
}
