//! `wasi:sockets/udp`: the functions that name addresses.

use std::net::SocketAddr;

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::UdpSocket;
use wasmtime_wasi::p2::bindings::sockets::network::{IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream as _, HostOutgoingDatagramStream as _, HostUdpSocket as _, IncomingDatagramStream,
    OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::{Networked, answer};

const UDP: &str = "wasi:sockets/udp@0.2.12";
const CREATE: &str = "wasi:sockets/udp-create-socket@0.2.12";

pub(super) fn shadow<T: Networked>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.instance(CREATE)?.func_wrap_async("create-udp-socket", |mut store, (family,): (IpAddressFamily,)| {
        Box::new(async move {
            let state = store.data_mut();
            let (family, nature) = state.net().family(family);
            let created = state.sockets().create_udp_socket(family).await;
            if let Ok(socket) = &created {
                state.net().remember(socket.rep(), nature);
            }
            answer(created)
        })
    })?;
    let mut udp = linker.instance(UDP)?;
    udp.func_wrap("[method]udp-socket.address-family", |mut store, (socket,): (Resource<UdpSocket>,)| {
        let state = store.data_mut();
        let handle = socket.rep();
        let family = state.sockets().address_family(socket)?;
        Ok((state.net().seen_family(handle, family),))
    })?;
    udp.func_wrap_async(
        "[method]udp-socket.start-bind",
        |mut store, (socket, network, address): (Resource<UdpSocket>, Resource<Network>, IpSocketAddress)| {
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
    // A preview 2 socket is always bound before this, so its address is the pod's already.
    udp.func_wrap_async(
        "[method]udp-socket.stream",
        |mut store, (socket, remote): (Resource<UdpSocket>, Option<IpSocketAddress>)| {
            Box::new(async move {
                let state = store.data_mut();
                let handle = socket.rep();
                let remote = match remote.map(|address| state.net().send_to(handle, address.into())).transpose() {
                    Ok(remote) => remote,
                    Err(unfit) => return Ok((Err(unfit.to_connect()),)),
                };
                let streams = state.sockets().stream(socket, remote.map(Into::into)).await;
                if let Ok((incoming, outgoing)) = &streams {
                    state.net().inherit(incoming.rep(), handle);
                    state.net().inherit(outgoing.rep(), handle);
                }
                answer(streams)
            })
        },
    )?;
    udp.func_wrap("[method]udp-socket.local-address", |mut store, (socket,): (Resource<UdpSocket>,)| {
        let state = store.data_mut();
        let handle = socket.rep();
        let mut sockets = state.sockets();
        let remote = sockets.remote_address(Resource::new_borrow(handle)).ok().map(Into::into);
        let local = sockets.local_address(socket);
        let net = state.net();
        answer(local.map(|local| IpSocketAddress::from(net.seen_local(handle, local.into(), remote))))
    })?;
    udp.func_wrap("[method]udp-socket.remote-address", |mut store, (socket,): (Resource<UdpSocket>,)| {
        let state = store.data_mut();
        let handle = socket.rep();
        let remote = state.sockets().remote_address(socket);
        let net = state.net();
        answer(remote.map(|address| IpSocketAddress::from(net.seen_sender(handle, address.into()))))
    })?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store, (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            let state = store.data_mut();
            let handle = stream.rep();
            let received = state.sockets().receive(stream, most);
            let net = state.net();
            answer(received.map(|mut datagrams| {
                for datagram in &mut datagrams {
                    datagram.remote_address = net.seen_sender(handle, datagram.remote_address.into()).into();
                }
                datagrams
            }))
        },
    )?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store, (stream, mut datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            let state = store.data_mut();
            let handle = stream.rep();
            for datagram in &mut datagrams {
                let Some(address) = datagram.remote_address else { continue };
                match state.net().send_to(handle, address.into()) {
                    Ok(address) => datagram.remote_address = Some(address.into()),
                    Err(unfit) => return Ok((Err(unfit.to_send()),)),
                }
            }
            answer(state.sockets().send(stream, datagrams))
        },
    )?;
    Ok(())
}
