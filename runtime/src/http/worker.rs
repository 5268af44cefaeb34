//! A thread on which guests answer requests, each in an instance of its own.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use wasmtime::Engine;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::answer::{Job, failed};
use super::queue::Queue;
use super::watch::Watch;
use crate::Exit;
use crate::guest::component::State;
use crate::guest::end::End;
use crate::guest::{FileCalls, Local, Surroundings};

/// What all workers share.
pub(super) struct Guests {
    pub(super) proxy: ProxyPre<State>,
    pub(super) engine: Engine,
    pub(super) surroundings: Surroundings,
    pub(super) queue: Queue,
    pub(super) watch: Watch,
    /// One permit for each instance the pool has room for.
    pub(super) room: Arc<Semaphore>,
    /// What ends the process.
    pub(super) fatal: mpsc::UnboundedSender<Exit>,
    /// Time an answered request may go on for after its client is gone.
    pub(super) afterwards: Duration,
}

/// Starts worker number `worker`. It ends when the queue is closed, or never if a guest computes for ever.
pub(super) fn start(guests: Arc<Guests>, worker: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("guest-{worker}")).spawn(move || {
        runtime.block_on(work(guests, worker));
        runtime.shutdown_background();
    })?;
    Ok(())
}

async fn work(guests: Arc<Guests>, worker: usize) {
    let local = guests.surroundings.local();
    loop {
        // The semaphore is never closed.
        let Ok(room) = Arc::clone(&guests.room).acquire_owned().await else { return };
        let Some(job) = guests.queue.pull().await else { return };
        let (guests, local) = (Arc::clone(&guests), local.clone());
        tokio::spawn(async move {
            let name = job.name();
            guests.watch.observe(worker, &name, guests.attend(job, &name, &local)).await;
            drop(room);
        });
    }
}

impl Guests {
    /// One request, until the guest returns or nobody wants its answer.
    async fn attend(&self, job: Job, name: &str, local: &Local) {
        let reply = job.reply.clone();
        let gone = job.gone.clone();
        let abandoned = async {
            gone.cancelled().await;
            if reply.is_sent() {
                // It has answered; it may have something to finish.
                tokio::time::sleep(self.afterwards).await;
            }
        };
        let end = tokio::select! {
            result = self.call(job, local) => match result {
                Ok(()) if reply.is_sent() => return,
                Ok(()) => self.failure(name, "the guest returned without an answer"),
                Err(error) => self.end(name, &error),
            },
            () = abandoned => return,
        };
        reply.send(failed());
        if let Some(exit) = end {
            // The receiver is there as long as the server runs.
            let _ = self.fatal.send(exit);
        }
    }

    async fn call(&self, job: Job, local: &Local) -> wasmtime::Result<()> {
        let Job { request, reply, gone: _ } = job;
        let mut store = State::new(&self.surroundings, local, FileCalls::OnPool)?.store(&self.engine);
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let answered = move |result: Result<_, _>| match result {
            Ok(response) => drop(reply.send(response)),
            Err(code) => {
                tracing::debug!(?code, "guest answered with an error");
                reply.send(failed());
            }
        };
        let answer = store.data_mut().http().new_response_outparam_from_callback(answered)?;
        let instance = self.proxy.instantiate_async(&mut store).await?;
        instance.wasi_http_incoming_handler().call_handle(&mut store, request, answer).await
    }

    /// A trap is the request's end. An exit and exhausted memory are the whole process's.
    fn end(&self, name: &str, error: &wasmtime::Error) -> Option<Exit> {
        let end = End::of(error);
        match &end {
            End::Exited(_) | End::OutOfMemory(_) => {
                end.report(&self.surroundings.stderr);
                Some(end.exit())
            }
            End::Trapped { report, .. } => self.failure(name, report.trim_end()),
        }
    }

    fn failure(&self, name: &str, text: &str) -> Option<Exit> {
        if let Err(error) = self.surroundings.stderr.write(format!("{name}: {text}\n").as_bytes()) {
            tracing::debug!(%error, "report a failed request on the guest's stderr");
        }
        None
    }
}
