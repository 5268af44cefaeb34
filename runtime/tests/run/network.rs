//! Sockets and names under a pod's identity, with two pods in one network namespace.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use samara_runtime::{Network, OnListen};

use crate::guest::{Guest, Running};
use crate::namespace::{inside, pod};

crate::trials![
    two_pods_listen_on_the_wildcard_address_and_the_same_port,
    localhost_is_the_pods_own,
    a_server_on_the_wildcard_address_is_found_at_localhost,
    outgoing_connections_come_from_the_pods_address,
    foreign_addresses_cannot_be_bound,
    other_pods_loopback_is_out_of_reach,
    datagrams_are_answered_from_where_they_were_sent_to,
    datagrams_come_from_the_pods_address,
    a_pod_with_a_namespace_of_its_own_is_left_alone,
    names_are_looked_up_with_the_search_list_from_the_pods_address,
    hosts_and_literal_addresses_need_no_server,
    an_unknown_name_is_an_error,
    it_tells_when_a_guests_socket_listens,
    a_server_on_the_ipv6_wildcard_serves_a_pod_that_has_ipv4_alone,
    datagrams_of_an_ipv6_socket_come_and_go_by_ipv4,
];

fn guest(network: &Network, args: &[&str]) -> Guest {
    let mut guest = Guest::component(args);
    guest.world.network = network.clone();
    guest
}

/// A server guest that listens.
fn serving(network: &Network, address: &str) -> Running {
    let server = guest(network, &["serve", address]).start();
    server.stdout.wait_for("listening on");
    server
}

fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn two_pods_listen_on_the_wildcard_address_and_the_same_port() {
    inside(|| {
        let (one, two) = (serving(&pod(1), "0.0.0.0:7000"), serving(&pod(2), "0.0.0.0:7000"));
        assert!(ask("10.88.0.1:7000").starts_with("10.88.0.1:7000 from "));
        assert!(ask("10.88.0.2:7000").starts_with("10.88.0.2:7000 from "));
        assert_eq!(one.wait().succeeded(), "listening on 0.0.0.0:7000\n", "as it asked for it");
        assert_eq!(two.wait().succeeded(), "listening on 0.0.0.0:7000\n");
    });
}

fn localhost_is_the_pods_own() {
    inside(|| {
        let (one, two) = (serving(&pod(1), "127.0.0.1:7000"), serving(&pod(2), "127.0.0.1:7000"));
        assert!(TcpStream::connect("10.88.0.1:7000").is_err(), "localhost only");
        for (network, server) in [(pod(1), one), (pod(2), two)] {
            let said = guest(&network, &["connect", "127.0.0.1:7000"]).run().succeeded();
            let lines: Vec<_> = said.lines().collect();
            assert!(lines[0].starts_with("connected 127.0.0.1:") && lines[0].ends_with(" to 127.0.0.1:7000"), "{said}");
            assert!(lines[1].starts_with("127.0.0.1:7000 from 127.0.0.1:"), "{said}");
            assert_eq!(server.wait().succeeded(), "listening on 127.0.0.1:7000\n");
        }
        let error = guest(&pod(3), &["connect", "127.0.0.1:7000"]).run().failed();
        assert!(error.contains("refused"), "{error}");
    });
}

fn a_server_on_the_wildcard_address_is_found_at_localhost() {
    inside(|| {
        let server = serving(&pod(1), "0.0.0.0:7000");
        let said = guest(&pod(1), &["connect", "127.0.0.1:7000"]).run().succeeded();
        assert!(said.contains(" to 127.0.0.1:7000\n127.0.0.1:7000 from 127.0.0.1:"), "{said}");
        server.wait().succeeded();
    });
}

fn outgoing_connections_come_from_the_pods_address() {
    inside(|| {
        let listener = TcpListener::bind("10.88.0.9:7000").unwrap();
        let client = guest(&pod(2), &["connect", "10.88.0.9:7000"]).start();
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), Ipv4Addr::new(10, 88, 0, 2));
        write!(stream, "welcome").unwrap();
        drop(stream);
        let said = client.wait().succeeded();
        assert_eq!(said, format!("connected {peer} to 10.88.0.9:7000\nwelcome\n"));
    });
}

fn foreign_addresses_cannot_be_bound() {
    inside(|| {
        for address in ["10.88.0.2:7000", "127.88.0.2:7000", "127.0.0.2:7000"] {
            let error = guest(&pod(1), &["serve", address]).run().failed();
            assert!(error.to_lowercase().contains("address not available"), "{address}: {error}");
            guest(&pod(1), &["udp-serve", address]).run().failed();
        }
    });
}

fn other_pods_loopback_is_out_of_reach() {
    inside(|| {
        let listener = TcpListener::bind("127.88.0.2:7000").unwrap();
        let shared = TcpListener::bind("127.0.0.1:7000").unwrap();
        for address in ["127.88.0.2:7000", "127.0.0.1:7000", "127.0.0.2:7000"] {
            guest(&pod(1), &["connect", address]).run().failed();
        }
        for listener in [listener, shared] {
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "nobody came");
        }
        let socket = UdpSocket::bind("127.88.0.2:7000").unwrap();
        let error = guest(&pod(1), &["udp-ask", "0.0.0.0:0", "127.88.0.2:7000", "x"]).run().failed();
        assert!(error.contains("nreachable"), "{error}");
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 10]).is_err());
    });
}

fn datagrams_are_answered_from_where_they_were_sent_to() {
    inside(|| {
        for address in ["0.0.0.0:7000", "127.0.0.1:7000"] {
            let server = guest(&pod(1), &["udp-serve", address]).start();
            server.stdout.wait_for(&format!("bound to {address}\n"));
            let said = guest(&pod(1), &["udp-ask", "0.0.0.0:0", "127.0.0.1:7000", "echo"]).run().succeeded();
            assert_eq!(said, "echo from 127.0.0.1:7000\n", "server on {address}");
            server.wait().succeeded();
        }
        let server = guest(&pod(1), &["udp-serve", "0.0.0.0:7000"]).start();
        server.stdout.wait_for("bound to 0.0.0.0:7000\n");
        let said = guest(&pod(2), &["udp-ask", "0.0.0.0:0", "10.88.0.1:7000", "echo"]).run().succeeded();
        assert_eq!(said, "echo from 10.88.0.1:7000\n");
        assert!(server.wait().succeeded().contains("from 10.88.0.2:"));
    });
}

fn datagrams_come_from_the_pods_address() {
    inside(|| {
        let socket = UdpSocket::bind("10.88.0.9:7000").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let said = guest(&pod(2), &["udp-connect", "10.88.0.9:7000", "text"]).run().succeeded();
        let mut buffer = [0; 10];
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], peer.ip().to_string()), (&b"text"[..], "10.88.0.2".into()));
        assert_eq!(said, format!("from {peer} to 10.88.0.9:7000\n"));
    });
}

fn a_pod_with_a_namespace_of_its_own_is_left_alone() {
    inside(|| {
        let server = serving(&Network::default(), "0.0.0.0:7000");
        assert!(ask("127.0.0.1:7000").starts_with("127.0.0.1:7000 from 127.0.0.1:"));
        server.wait().succeeded();
        let listener = TcpListener::bind("127.5.5.5:7000").unwrap();
        let client = guest(&Network::default(), &["connect", "127.5.5.5:7000"]).start();
        let (mut stream, peer) = listener.accept().unwrap();
        assert!(peer.ip().is_loopback());
        write!(stream, "x").unwrap();
        drop(stream);
        client.wait().succeeded();
    });
}

/// Answers every question for one name with one address, and every other with "no such name"; tells who asked what.
fn name_server(address: &str, known: &'static str, answer: Ipv4Addr) -> mpsc::Receiver<(SocketAddr, String)> {
    let socket = UdpSocket::bind(address).unwrap();
    let (sender, asked) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..length];
            let (mut name, mut at) = (String::new(), 0);
            while question[at] != 0 {
                let label = &question[at + 1..at + 1 + usize::from(question[at])];
                name += &String::from_utf8_lossy(label).to_lowercase();
                name.push('.');
                at += 1 + label.len();
            }
            let kind = question[at + 2];
            let end = at + 5;
            let is_known = name == known;
            let found = is_known && kind == 1;
            let mut reply = buffer[..2].to_vec();
            reply.extend([0x81, if is_known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
            reply.extend(&question[..end]);
            if found {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                reply.extend(answer.octets());
            }
            // The test may be over.
            if sender.send((peer, name)).is_err() || socket.send_to(&reply, peer).is_err() {
                return;
            }
        }
    });
    asked
}

fn names_are_looked_up_with_the_search_list_from_the_pods_address() {
    inside(|| {
        let known = "web.default.svc.cluster.local.";
        let asked = name_server("10.88.0.10:53", known, Ipv4Addr::new(10, 96, 0, 7));
        let mut network = pod(1);
        network.dns.servers = vec!["10.88.0.10:53".parse().unwrap()];
        network.dns.searches = vec!["default.svc.cluster.local".into(), "svc.cluster.local".into()];
        network.dns.options = vec!["ndots:5".into()];
        for name in ["web", "web.default", "web.default.svc.cluster.local"] {
            let said = guest(&network, &["look-up", name]).run();
            if name == "web.default" {
                // Found by the second of the search list only.
                assert_eq!(said.succeeded(), "10.96.0.7\n");
            } else {
                assert_eq!(said.succeeded(), "10.96.0.7\n", "{name}");
            }
        }
        let questions: Vec<_> = asked.try_iter().collect();
        assert!(questions.iter().all(|(peer, _)| peer.ip() == Ipv4Addr::new(10, 88, 0, 1)), "{questions:?}");
        assert!(questions.iter().any(|(_, name)| name == known));
    });
}

fn hosts_and_literal_addresses_need_no_server() {
    let mut network = pod(1);
    network.dns.hosts = vec![("10.88.0.7".parse().unwrap(), vec!["db".into()])];
    for (name, address) in [("db", "10.88.0.7"), ("10.1.2.3", "10.1.2.3"), ("localhost", "127.0.0.1")] {
        assert_eq!(guest(&network, &["look-up", name]).run().succeeded(), format!("{address}\n"));
    }
}

fn an_unknown_name_is_an_error() {
    inside(|| {
        let _asked = name_server("10.88.0.10:53", "known.", Ipv4Addr::LOCALHOST);
        let mut network = pod(1);
        network.dns.servers = vec!["10.88.0.10:53".parse().unwrap()];
        for name in ["unknown", "with space", ""] {
            guest(&network, &["look-up", name]).run().failed();
        }
        let endless = "x".repeat(10_000);
        guest(&network, &["look-up", &endless]).run().failed();
    });
}

fn it_tells_when_a_guests_socket_listens() {
    inside(|| {
        let (sender, listening) = mpsc::channel();
        let mut server = guest(&pod(1), &["serve", "0.0.0.0:7000"]);
        server.world.on_listen = Some(OnListen::new(move |address| sender.send(address).unwrap()));
        let server = server.start();
        let address = listening.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(address, "10.88.0.1:7000".parse().unwrap());
        ask("10.88.0.1:7000");
        server.wait().succeeded();
    });
}

fn a_server_on_the_ipv6_wildcard_serves_a_pod_that_has_ipv4_alone() {
    inside(|| {
        let server = serving(&pod(1), "[::]:7000");
        let said = ask("10.88.0.1:7000");
        assert!(said.starts_with("[::ffff:10.88.0.1]:7000 from [::ffff:"), "{said}");
        assert_eq!(server.wait().succeeded(), "listening on [::]:7000\n", "as it asked for it");

        let server = serving(&pod(1), "[::]:7000");
        let said = guest(&pod(1), &["connect", "[::1]:7000"]).run().succeeded();
        assert!(said.contains(" to [::1]:7000\n[::1]:7000 from [::1]:"), "{said}");
        server.wait().succeeded();

        let error = guest(&pod(1), &["connect", "[2001:db8::1]:7000"]).run().failed();
        assert!(error.contains("nreachable"), "{error}");
        guest(&pod(1), &["serve", "[fd00::1]:7000"]).run().failed();
    });
}

fn datagrams_of_an_ipv6_socket_come_and_go_by_ipv4() {
    inside(|| {
        for (to, from) in [("[::1]:7000", "[::1]:7000"), ("[::ffff:10.88.0.1]:7000", "[::ffff:10.88.0.1]:7000")] {
            let server = guest(&pod(1), &["udp-serve", "[::]:7000"]).start();
            server.stdout.wait_for("bound to [::]:7000\n");
            let said = guest(&pod(1), &["udp-ask", "[::]:0", to, "echo"]).run().succeeded();
            assert_eq!(said, format!("echo from {from}\n"));
            server.wait().succeeded();
        }
    });
}
