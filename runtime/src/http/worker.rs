//! A thread on which guests answer requests.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::thread;
use std::time::Duration;

use http::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use wasmtime::Engine;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::answer::{Job, Name};
use super::exchange::Reply;
use super::instance::Instance;
use super::queue::Queue;
use super::request::RequestBody;
use super::watch::Watch;
use crate::Exit;
use crate::guest::component::State;
use crate::guest::end::End;
use crate::guest::{Local, Surroundings};

/// An instance that waits for its next request is dropped after this long.
const IDLE: Duration = Duration::from_secs(30);
/// Requests begun one after the other before those that wait for something are looked at.
const TURNS: u32 = 16;

/// What all workers share.
pub(super) struct Guests {
    pub(super) proxy: ProxyPre<State>,
    pub(super) engine: Engine,
    pub(super) surroundings: Surroundings,
    pub(super) queue: Queue,
    pub(super) watch: Watch,
    /// One permit for each instance the pool has room for.
    pub(super) room: Arc<Semaphore>,
    /// Requests that one instance may answer, one after the other.
    pub(super) reuse: u32,
    /// Instances that a worker keeps for the next request.
    pub(super) keep: usize,
    /// What ends the process.
    pub(super) fatal: mpsc::UnboundedSender<Exit>,
    /// Time an answered request may go on for after its client is gone.
    pub(super) afterwards: Duration,
}

/// A place in the pool, and the instance that is in it already.
struct Place {
    instance: Option<Box<Instance>>,
    room: OwnedSemaphorePermit,
}

/// A worker's own part.
struct Worker {
    number: usize,
    guests: Arc<Guests>,
    local: Local,
    kept: Mutex<Vec<Place>>,
}

/// Starts worker number `number`. It ends when the queue is closed, or never if a guest computes for ever.
pub(super) fn start(guests: Arc<Guests>, number: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("guest-{number}")).spawn(move || {
        let local = guests.surroundings.local();
        let worker = Worker { number, guests, local, kept: Mutex::default() };
        runtime.block_on(Arc::new(worker).work());
        runtime.shutdown_background();
    })?;
    Ok(())
}

impl Worker {
    async fn work(self: Arc<Self>) {
        for turn in 1_u32.. {
            let Some(mut place) = self.place().await else { return };
            let Some(job) = self.next(&mut place).await else { return };
            if place.instance.is_none()
                && let Some(kept) = self.kept().pop()
            {
                place = kept;
            }
            let worker = Arc::clone(&self);
            let mut request = Box::pin(async move {
                let name = job.name();
                let place = worker.guests.watch.observe(worker.number, &name, worker.attend(job, &name, place)).await;
                worker.keep(place);
            });
            // Most guests answer without waiting, and leave their instance to the next request.
            let polled = poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
            if polled.is_pending() {
                tokio::spawn(request);
            }
            if turn % TURNS == 0 {
                // To those that waited, and to the clock.
                tokio::task::yield_now().await;
            }
        }
    }

    /// The next request. An instance that waits for it too long is dropped.
    async fn next(&self, place: &mut Place) -> Option<Job> {
        loop {
            let is_idle = place.instance.is_some();
            tokio::select! {
                biased;
                job = self.guests.queue.pull() => return job,
                () = tokio::time::sleep(IDLE), if is_idle => {
                    place.instance = None;
                    self.kept().clear();
                }
            }
        }
    }

    /// Where the next request will be answered: in an instance that is there, or where there is room for one.
    async fn place(&self) -> Option<Place> {
        if let Some(place) = self.kept().pop() {
            return Some(place);
        }
        // The semaphore is never closed.
        let room = Arc::clone(&self.guests.room).acquire_owned().await.ok()?;
        Some(Place { instance: None, room })
    }

    fn keep(&self, place: Place) {
        let mut kept = self.kept();
        if place.instance.is_some() && kept.len() < self.guests.keep {
            kept.push(place);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Place>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, until the guest returns or nobody wants its answer. The instance comes back if it may go on.
    async fn attend(&self, job: Job, name: &Name, place: Place) -> Place {
        let Place { instance, room } = place;
        let Job { request, promise } = job;
        let reply = promise.reply();
        let mut call = pin!(self.call(request, reply.clone(), instance));
        let mut last = None;
        let result = poll_fn(|context| {
            let polled = call.as_mut().poll(context);
            // What the guest has said of its answer by the time it waits goes out in one piece.
            reply.release();
            if polled.is_ready() {
                return polled.map(Some);
            }
            ready!(reply.poll_abandoned(context));
            if reply.is_given() {
                // It has answered; it may have something to finish.
                let last = last.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.guests.afterwards)));
                ready!(last.as_mut().poll(context));
            }
            Poll::Ready(None)
        })
        .await;
        let end = match result {
            Some(Ok(instance)) if reply.is_given() => {
                let instance = instance.may_serve(self.guests.reuse).then_some(instance);
                return Place { instance, room };
            }
            Some(Ok(_)) => self.guests.failure(name, "the guest returned without an answer"),
            Some(Err(error)) => self.guests.end(name, &error),
            None => None,
        };
        drop(promise);
        if let Some(exit) = end {
            // The receiver is there as long as the server runs.
            let _ = self.guests.fatal.send(exit);
        }
        Place { instance: None, room }
    }

    async fn call(
        &self,
        request: Request<RequestBody>,
        reply: Reply,
        instance: Option<Box<Instance>>,
    ) -> wasmtime::Result<Box<Instance>> {
        let mut instance = match instance {
            Some(instance) => instance,
            None => {
                let guests = &self.guests;
                let made = Instance::new(&guests.proxy, &guests.engine, &guests.surroundings, &self.local).await?;
                Box::new(made)
            }
        };
        instance.handle(request, reply).await?;
        Ok(instance)
    }
}

impl Guests {
    /// A trap is the request's end. An exit and exhausted memory are the whole process's.
    fn end(&self, name: &Name, error: &wasmtime::Error) -> Option<Exit> {
        let end = End::of(error);
        match &end {
            End::Exited(_) | End::OutOfMemory(_) => {
                end.report(&self.surroundings.stderr);
                Some(end.exit())
            }
            End::Trapped { report, .. } => self.failure(name, report.trim_end()),
        }
    }

    fn failure(&self, name: &Name, text: &str) -> Option<Exit> {
        if let Err(error) = self.surroundings.stderr.write(format!("{name}: {text}\n").as_bytes()) {
            tracing::debug!(%error, "report a failed request on the guest's stderr");
        }
        None
    }
}
