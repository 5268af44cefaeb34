//! `wasi:sockets/ip-name-lookup`, by way of a [`Resolver`].

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::vec;

use futures::future::BoxFuture;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{Pollable, subscribe};

use super::resolver::{LookUpError, Resolver};
use super::{Identity, Networked};

const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// The answer to a look-up, or its future.
enum Answer {
    Pending(BoxFuture<'static, Result<Vec<IpAddr>, LookUpError>>),
    Ready(Result<vec::IntoIter<IpAddr>, LookUpError>),
}

pub(super) fn shadow<T: Networked>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut lookup = linker.instance(LOOKUP)?;
    lookup.resource("resolve-address-stream", ResourceType::host::<Answer>(), |mut store, handle| {
        store.data_mut().ctx().table.delete(Resource::<Answer>::new_own(handle))?;
        Ok(())
    })?;
    lookup.func_wrap("resolve-addresses", |mut store, (network, name): (Resource<Network>, String)| {
        let state = store.data_mut();
        // Holding it is the permission to look up names.
        state.ctx().table.get(&network)?;
        let net = state.net();
        let Some(name) = valid(&name) else { return Ok((Err(ErrorCode::InvalidArgument),)) };
        let answer = find(Arc::clone(&net.resolver), Arc::clone(&net.identity), name);
        // Runs on, wherever the guest waits.
        let task = wasmtime_wasi::runtime::spawn(answer);
        let answer = state.ctx().table.push(Answer::Pending(Box::pin(task)))?;
        Ok((Ok::<_, ErrorCode>(answer),))
    })?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store, (answer,): (Resource<Answer>,)| {
            let answer = store.data_mut().ctx().table.get_mut(&answer)?;
            if let Answer::Pending(future) = answer
                && let Some(result) = wasmtime_wasi::runtime::poll_noop(Pin::new(future))
            {
                *answer = Answer::Ready(result.map(Vec::into_iter));
            }
            Ok((match answer {
                Answer::Pending(_) => Err(ErrorCode::WouldBlock),
                Answer::Ready(Ok(addresses)) => Ok(addresses.next().map(IpAddress::from)),
                Answer::Ready(Err(error)) => Err(error.into()),
            },))
        },
    )?;
    lookup.func_wrap("[method]resolve-address-stream.subscribe", |mut store, (answer,): (Resource<Answer>,)| {
        Ok((subscribe(store.data_mut().ctx().table, answer)?,))
    })?;
    Ok(())
}

/// A name that can be looked up: not empty, no spaces, not longer than names may be.
fn valid(name: &str) -> Option<String> {
    let plain = |character: char| !character.is_whitespace() && !character.is_control();
    (!name.is_empty() && name.len() <= 254 && name.chars().all(plain)).then(|| name.to_owned())
}

/// Addresses the pod can reach, literal ones in any case. Never IPv4 ones in IPv6 clothes, as the interface has it.
pub(crate) async fn find(
    resolver: Arc<dyn Resolver>,
    identity: Arc<Identity>,
    name: String,
) -> Result<Vec<IpAddr>, LookUpError> {
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(vec![address.to_canonical()]);
    }
    let mut addresses: Vec<_> = resolver.look_up(name).await?.iter().map(IpAddr::to_canonical).collect();
    addresses.retain(|address| identity.has_family_of(*address));
    if addresses.is_empty() { Err(LookUpError::NoSuchName) } else { Ok(addresses) }
}

impl From<&mut LookUpError> for ErrorCode {
    fn from(error: &mut LookUpError) -> Self {
        match error {
            LookUpError::NoSuchName => Self::NameUnresolvable,
            LookUpError::Temporary => Self::TemporaryResolverFailure,
            LookUpError::Permanent => Self::PermanentResolverFailure,
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {
        if let Self::Pending(future) = self {
            *self = Self::Ready(future.as_mut().await.map(Vec::into_iter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dns;
    use crate::net::hickory;

    #[tokio::test]
    async fn an_ipv4_address_in_ipv6_clothes_is_found_as_what_it_is() {
        let network = crate::Network { pod_ips: vec!["10.1.0.5".parse().unwrap()], ..crate::Network::default() };
        let identity = Arc::new(Identity::new(&network));
        let hosts = vec![("::ffff:10.1.0.9".parse().unwrap(), vec!["web".into()])];
        let resolver = hickory(&Dns { hosts, ..Dns::default() }, Arc::clone(&identity));
        for (name, found) in [
            ("web", "10.1.0.9"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            let addresses = find(Arc::clone(&resolver), Arc::clone(&identity), name.into()).await;
            assert_eq!(addresses, Ok(vec![found.parse().unwrap()]), "{name}");
        }
    }
}
