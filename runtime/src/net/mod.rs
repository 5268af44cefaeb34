//! The guest's network: sockets, names and outgoing http under the pod's identity.
//!
//! Many pods may share one network namespace, in which every pod's address is local. What keeps them apart there is
//! this code: each address a guest names is decided on by [`Identity`] before it reaches the kernel, and translated
//! back when the guest asks. Where a pod has a namespace of its own (no pod addresses are given) nothing is rewritten.

mod addresses;
mod identity;
mod lookup;
mod probe;
mod resolver;
mod tcp;
mod udp;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

pub(crate) use identity::{Identity, Use};
pub(crate) use lookup::find;
pub(crate) use resolver::{LookUpError, Resolver, hickory};

use wasmtime::component::Linker;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::SocketResult;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

use crate::OnListen;

/// One instance's view of the network.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) identity: Arc<Identity>,
    pub(crate) resolver: Arc<dyn Resolver>,
    on_listen: Option<OnListen>,
    /// By handle: where a socket is other than the guest takes it for.
    natures: HashMap<u32, addresses::Nature>,
    /// Ports at 127.0.0.1 to which the guest sends datagrams that in truth go to the pod's own address.
    redirected: HashSet<u16>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Net {
    pub(crate) fn new(identity: Arc<Identity>, resolver: Arc<dyn Resolver>, on_listen: Option<OnListen>) -> Self {
        Self { identity, resolver, on_listen, natures: HashMap::new(), redirected: HashSet::new() }
    }
}

/// A store's state with a network.
pub(crate) trait Networked: WasiView + 'static {
    fn net(&mut self) -> &mut Net;
}

/// Replaces the socket functions of `linker` that name addresses, and name look-up as a whole.
pub(crate) fn shadow<T: Networked>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    tcp::shadow(linker)?;
    udp::shadow(linker)?;
    lookup::shadow(linker)
}

/// As the guest's function returns it; an error that is not the guest's is a trap.
fn answer<V>(result: SocketResult<V>) -> wasmtime::Result<(Result<V, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}
