//! Ports.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::machine::{Machine, p2};

fn get(port: u64) -> String {
    let port = u16::try_from(port).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn two_containers_listen_on_one_port_and_are_reached_on_two() {
    let machine = Machine::new();
    for (name, guest) in [("a", "http_hello_v1"), ("b", "http_hello_v2")] {
        machine.good(&["run", "-d", "--name", name, "-p", "127.0.0.1:0:8080", &p2(guest)]);
    }
    for (name, says) in [("a", "hello from v1"), ("b", "hello from v2")] {
        let port = machine.json(&["inspect", name])[0]["state"]["ports"][0]["hostPort"].as_u64().unwrap();
        machine.until("it answers", || get(port).contains(says));
        assert!(machine.good(&["ps"]).contains(&format!("127.0.0.1:{port}->8080/tcp")));
    }
}

#[test]
fn a_guest_with_sockets_of_its_own_is_reached_too_and_a_taken_port_is_said() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "echo", "-p", "127.0.0.1::7000", &p2("tcp-echo")]);
    let port = machine.json(&["inspect", "echo"])[0]["state"]["ports"][0]["hostPort"].as_u64().unwrap();
    let mut heard = [0; 4];
    machine.until("it echoes", || {
        let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
        stream.write_all(b"ping").is_ok() && stream.read_exact(&mut heard).is_ok()
    });
    assert_eq!(&heard, b"ping");
    let publish = format!("127.0.0.1:{port}:7000");
    let taken = machine.samara(&["run", "-d", "--name", "other", "-p", &publish, &p2("tcp-echo")]);
    assert_eq!(taken.code, 125);
    assert!(taken.err.contains("-p 0:7000"), "{taken:?}");
    assert_eq!(machine.status("other"), "gone");
}

#[test]
fn without_a_network_a_guest_has_only_itself() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "alone", "--network", "none", &p2("http_hello_v1")]);
    assert_eq!(machine.status("alone"), "running");
}
