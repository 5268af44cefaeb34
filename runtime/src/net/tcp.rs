//! `wasi:sockets/tcp`: the functions that name addresses.

use std::net::SocketAddr;

use rustix::net::SocketType;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket as _;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::{instance_network::Host as _, network::HostNetwork, network::Network};
use wasmtime_wasi::p2::{SocketResult, TcpSocket};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView as _};

use super::identity::Route;
use super::{Networked, answer, probe};

const TCP: &str = "wasi:sockets/tcp@0.2.12";
const CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";

pub(super) fn shadow<T: Networked>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.instance(CREATE)?.func_wrap("create-tcp-socket", |mut store, (family,): (IpAddressFamily,)| {
        let state = store.data_mut();
        let (family, nature) = state.net().family(family);
        let created = state.sockets().create_tcp_socket(family);
        if let Ok(socket) = &created {
            state.net().remember(socket.rep(), nature);
        }
        answer(created)
    })?;
    let mut tcp = linker.instance(TCP)?;
    tcp.func_wrap("[method]tcp-socket.address-family", |mut store, (socket,): (Resource<TcpSocket>,)| {
        let state = store.data_mut();
        let handle = socket.rep();
        let family = state.sockets().address_family(socket)?;
        Ok((state.net().seen_family(handle, family),))
    })?;
    tcp.func_wrap_async(
        "[method]tcp-socket.start-bind",
        |mut store, (socket, network, address): (Resource<TcpSocket>, Resource<Network>, IpSocketAddress)| {
            Box::new(async move {
                let state = store.data_mut();
                let (handle, asked) = (socket.rep(), SocketAddr::from(address));
                let address = match state.net().bind(handle, asked) {
                    Ok(address) => address,
                    Err(unfit) => return Ok((Err(unfit.to_bind()),)),
                };
                let bound = state.sockets().start_bind(socket, network, address.into()).await;
                if bound.is_ok() {
                    state.net().bound(handle, asked);
                }
                answer(bound)
            })
        },
    )?;
    tcp.func_wrap_async(
        "[method]tcp-socket.start-connect",
        |mut store, (socket, network, address): (Resource<TcpSocket>, Resource<Network>, IpSocketAddress)| {
            Box::new(async move {
                let state = store.data_mut();
                let route = match state.net().route(socket.rep(), address.into()) {
                    Ok(route) => route,
                    Err(unfit) => return Ok((Err(unfit.to_connect()),)),
                };
                let mut sockets = state.sockets();
                if let Err(error) = bind_first(&mut sockets, &socket, &route).await {
                    return answer(Err(error));
                }
                let to = probe::choose(&route, SocketType::STREAM);
                answer(sockets.start_connect(socket, network, to.into()))
            })
        },
    )?;
    tcp.func_wrap_async("[method]tcp-socket.start-listen", |mut store, (socket,): (Resource<TcpSocket>,)| {
        Box::new(async move {
            let state = store.data_mut();
            let mut sockets = state.sockets();
            let listening = sockets.start_listen(Resource::new_borrow(socket.rep())).await;
            if listening.is_ok()
                && let Ok(address) = sockets.local_address(socket)
                && let Some(on_listen) = &state.net().on_listen
            {
                on_listen.tell(address.into());
            }
            answer(listening)
        })
    })?;
    tcp.func_wrap("[method]tcp-socket.accept", |mut store, (socket,): (Resource<TcpSocket>,)| {
        let state = store.data_mut();
        let listener = socket.rep();
        let accepted = state.sockets().accept(socket);
        if let Ok((socket, _, _)) = &accepted {
            state.net().inherit(socket.rep(), listener);
        }
        answer(accepted)
    })?;
    tcp.func_wrap("[method]tcp-socket.local-address", |mut store, (socket,): (Resource<TcpSocket>,)| {
        let state = store.data_mut();
        let handle = socket.rep();
        let mut sockets = state.sockets();
        let remote = sockets.remote_address(Resource::new_borrow(handle)).ok().map(Into::into);
        let local = sockets.local_address(socket);
        let net = state.net();
        answer(local.map(|local| IpSocketAddress::from(net.seen_local(handle, local.into(), remote))))
    })?;
    tcp.func_wrap("[method]tcp-socket.remote-address", |mut store, (socket,): (Resource<TcpSocket>,)| {
        let state = store.data_mut();
        let handle = socket.rep();
        let mut sockets = state.sockets();
        let local = sockets.local_address(Resource::new_borrow(handle)).ok().map(Into::into);
        let remote = sockets.remote_address(socket);
        let net = state.net();
        answer(remote.map(|remote| IpSocketAddress::from(net.seen_remote(handle, local, remote.into()))))
    })?;
    Ok(())
}

/// An unbound socket gets the pod's address before it connects, or the kernel would choose one of the namespace's.
async fn bind_first(
    sockets: &mut WasiSocketsCtxView<'_>,
    socket: &Resource<TcpSocket>,
    route: &Route,
) -> SocketResult<()> {
    let handle = || Resource::new_borrow(socket.rep());
    let Some(from) = route.from else { return Ok(()) };
    if sockets.local_address(handle()).is_ok() {
        return Ok(());
    }
    let network: Resource<Network> = sockets.instance_network().map_err(wasmtime_wasi::p2::SocketError::trap)?;
    let bound =
        sockets.start_bind(handle(), Resource::new_borrow(network.rep()), SocketAddr::new(from, 0).into()).await;
    HostNetwork::drop(sockets, network).map_err(wasmtime_wasi::p2::SocketError::trap)?;
    bound?;
    sockets.finish_bind(handle())
}
