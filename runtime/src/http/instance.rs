//! One instance of the guest, and the requests it answers: one, unless the guest allows more.

use http::Request;
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};

use super::answer::failed;
use super::exchange::Reply;
use super::request::RequestBody;
use crate::guest::component::State;
use crate::guest::{Local, Surroundings};

pub(super) struct Instance {
    store: Store<State>,
    proxy: Proxy,
    served: u32,
}

impl Instance {
    pub(super) async fn new(
        proxy: &ProxyPre<State>,
        engine: &Engine,
        surroundings: &Surroundings,
        local: &Local,
    ) -> wasmtime::Result<Self> {
        let mut store = State::new(surroundings, local).store(engine);
        let proxy = proxy.instantiate_async(&mut store).await?;
        Ok(Self { store, proxy, served: 0 })
    }

    /// Whether it may answer another request, of `reuse` in all.
    pub(super) fn may_serve(&self, reuse: u32) -> bool {
        self.served < reuse
    }

    /// Hands the request to the guest; it is done when the guest returns. After an error the instance is of no use.
    pub(super) async fn handle(&mut self, request: Request<RequestBody>, reply: Reply) -> wasmtime::Result<()> {
        self.served += 1;
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let answer = http.new_response_outparam_from_callback(move |result| {
            reply.give(result.unwrap_or_else(|code| {
                tracing::debug!(?code, "guest answered with an error");
                failed()
            }));
        })?;
        self.proxy.wasi_http_incoming_handler().call_handle(&mut self.store, request, answer).await
    }
}
