//! `wasi:sockets/udp`: the functions that name addresses.

use std::net::SocketAddr;

use rustix::net::SocketType;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::UdpSocket;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream as _, HostOutgoingDatagramStream as _, HostUdpSocket as _, IncomingDatagramStream,
    OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::identity::{Refused, localhost};
use super::{Net, Networked, Protocol, answer, probe};

const UDP: &str = "wasi:sockets/udp@0.2.12";
const CREATE: &str = "wasi:sockets/udp-create-socket@0.2.12";

pub(super) fn shadow<T: Networked>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.instance(CREATE)?.func_wrap_async("create-udp-socket", |mut store, (family,): (IpAddressFamily,)| {
        Box::new(async move {
            let state = store.data_mut();
            let created = state.sockets().create_udp_socket(family).await;
            if let Ok(socket) = &created {
                state.net().wildcards.remove(&(Protocol::Udp, socket.rep()));
            }
            answer(created)
        })
    })?;
    let mut udp = linker.instance(UDP)?;
    udp.func_wrap_async(
        "[method]udp-socket.start-bind",
        |mut store, (socket, network, address): (Resource<UdpSocket>, Resource<Network>, IpSocketAddress)| {
            Box::new(async move {
                let state = store.data_mut();
                let asked = SocketAddr::from(address);
                let Ok(address) = state.net().identity.bind(asked) else {
                    return Ok((Err(ErrorCode::AddressNotBindable),));
                };
                let handle = socket.rep();
                let bound = state.sockets().start_bind(socket, network, address.into()).await;
                if bound.is_ok() && asked.ip().is_unspecified() && !state.net().identity.is_plain() {
                    state.net().wildcards.insert((Protocol::Udp, handle));
                }
                answer(bound)
            })
        },
    )?;
    // A preview 2 socket is always bound before this, so its address is the pod's already.
    udp.func_wrap_async(
        "[method]udp-socket.stream",
        |mut store, (socket, remote): (Resource<UdpSocket>, Option<IpSocketAddress>)| {
            Box::new(async move {
                let state = store.data_mut();
                let remote = match remote.map(|address| send_to(state.net(), address.into())).transpose() {
                    Ok(remote) => remote,
                    Err(Refused) => return Ok((Err(ErrorCode::ConnectionRefused),)),
                };
                answer(state.sockets().stream(socket, remote.map(Into::into)).await)
            })
        },
    )?;
    udp.func_wrap("[method]udp-socket.local-address", |mut store, (socket,): (Resource<UdpSocket>,)| {
        let state = store.data_mut();
        let handle = socket.rep();
        let mut sockets = state.sockets();
        let connected = sockets.remote_address(Resource::new_borrow(handle)).is_ok();
        let local = sockets.local_address(socket);
        let net = state.net();
        answer(local.map(|address| {
            let address = address.into();
            IpSocketAddress::from(match connected {
                true => net.identity.seen(address),
                false => net.seen_unconnected(Protocol::Udp, handle, address),
            })
        }))
    })?;
    udp.func_wrap("[method]udp-socket.remote-address", |mut store, (socket,): (Resource<UdpSocket>,)| {
        let state = store.data_mut();
        let remote = state.sockets().remote_address(socket);
        let net = state.net();
        answer(remote.map(|address| IpSocketAddress::from(seen_sender(net, address.into()))))
    })?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store, (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            let state = store.data_mut();
            let received = state.sockets().receive(stream, most);
            let net = state.net();
            answer(received.map(|mut datagrams| {
                for datagram in &mut datagrams {
                    datagram.remote_address = seen_sender(net, datagram.remote_address.into()).into();
                }
                datagrams
            }))
        },
    )?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store, (stream, mut datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            let state = store.data_mut();
            for datagram in &mut datagrams {
                let Some(address) = datagram.remote_address else { continue };
                match send_to(state.net(), address.into()) {
                    Ok(address) => datagram.remote_address = Some(address.into()),
                    Err(Refused) => return Ok((Err(ErrorCode::RemoteUnreachable),)),
                }
            }
            answer(state.sockets().send(stream, datagrams))
        },
    )?;
    Ok(())
}

/// Where datagrams for `address` go. Remembers what was redirected, so that answers come from where they are awaited.
fn send_to(net: &mut Net, address: SocketAddr) -> Result<SocketAddr, Refused> {
    let route = net.identity.route(address)?;
    let to = probe::choose(&route, SocketType::DGRAM);
    if Some(to) == route.or {
        net.redirected.insert(to.port());
    }
    Ok(to)
}

/// Whom the guest takes a datagram to be from.
fn seen_sender(net: &Net, address: SocketAddr) -> SocketAddr {
    if net.identity.is_own(address) && net.redirected.contains(&address.port()) {
        return SocketAddr::new(localhost(address), address.port());
    }
    net.identity.seen(address)
}
