//! When a guest's socket begins to listen, those who drive the shim hear of it.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use samara_shim_client::ShimError;
use serde_json::json;

use crate::bundle::Container;
use crate::guests;
use crate::node::{Node, SOON};

/// Below those that the kernel gives to whoever asks for any, so that nobody takes it before it is used.
fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap_or(0);
    let mut ports = std::iter::repeat_with(|| first + TRIED.fetch_add(1, Ordering::Relaxed)).take(1_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn server(node: &Node, port: u16) -> Container {
    let mut container = node.container(&guests::server());
    container.config["process"]["env"] = json!([format!("PORT={port}")]);
    container
}

#[tokio::test]
async fn who_waits_hears_of_the_socket_when_it_listens_and_not_before() {
    let node = Node::start().await;
    let port = free_port();
    let container = server(&node, port);
    node.shim.create(&container.request()).await.expect("created");
    let waiting = tokio::spawn({
        let (shim, id) = (node.shim.clone(), container.id.clone());
        async move { shim.listening(&id).await }
    });
    let early = tokio::time::timeout(Duration::from_millis(200), node.shim.listening(&container.id)).await;
    assert!(early.is_err(), "a guest that was not started listens: {early:?}");

    node.shim.start(&container.id, "").await.expect("started");
    let addresses = tokio::time::timeout(SOON, waiting).await.expect("in time").expect("no panic").expect("listens");
    assert_eq!(addresses.iter().map(std::net::SocketAddr::port).collect::<Vec<_>>(), vec![port; addresses.len()]);
    TcpStream::connect(("127.0.0.1", port)).expect("it takes connections");
    assert_eq!(node.shim.listening(&container.id).await, Ok(addresses), "who asks later hears it at once");
}

#[tokio::test]
async fn the_next_front_knows_who_listens() {
    let mut node = Node::start().await;
    let container = server(&node, free_port());
    node.run(&container).await;
    let addresses = node.shim.listening(&container.id).await.expect("listens");
    crate::node::kill(node.front_pid());
    node.restart().await;
    assert_eq!(node.shim.listening(&container.id).await, Ok(addresses));
}

#[tokio::test]
async fn one_that_ends_without_listening_or_is_not_known_is_an_error() {
    let node = Node::start().await;
    let container = node.container(&guests::sleeper());
    node.run(&container).await;
    let waiting = tokio::spawn({
        let (shim, id) = (node.shim.clone(), container.id.clone());
        async move { shim.listening(&id).await }
    });
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    let ended = tokio::time::timeout(SOON, waiting).await.expect("in time").expect("no panic");
    assert!(matches!(ended, Err(ShimError::FailedPrecondition { .. })), "{ended:?}");
    let again = node.shim.listening(&container.id).await;
    assert!(matches!(again, Err(ShimError::FailedPrecondition { .. })), "{again:?}");
    let unknown = node.shim.listening("nobody").await;
    assert!(matches!(unknown, Err(ShimError::NotFound { .. })), "{unknown:?}");
}
