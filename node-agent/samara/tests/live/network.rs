//! Ports.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::machine::{Machine, p2};

/// What it answers; nothing as long as nobody listens behind the port.
fn get(port: u64) -> String {
    let port = u16::try_from(port).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut answer = String::new();
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let _reset = asked.and_then(|()| stream.read_to_string(&mut answer));
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
fn the_same_port_inside_and_outside_and_no_address_named() {
    let machine = Machine::new();
    // Nobody has it now; another test might take it in between, and then it is another's turn.
    let port = machine_port();
    let publish = format!("{port}:{port}");
    machine.good(&["run", "-d", "--name", "web", "-p", &publish, &p2("http_hello_v1")]);
    machine.until("it answers", || get(port).contains("hello from v1"));
    assert!(machine.good(&["ps"]).contains(&format!("0.0.0.0:{port}->{port}/tcp")));
}

#[test]
fn a_server_that_cannot_listen_says_so_in_its_log() {
    let machine = Machine::new();
    // Whoever listens everywhere on this machine has the port at a guest's address too.
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let publish = format!("127.0.0.1::{}", everywhere.local_addr().unwrap().port());
    machine.good(&["run", "-d", "--name", "web", "-p", &publish, &p2("http_hello_v1")]);
    machine.until("it has ended", || machine.status("web") == "exited");
    let said = machine.samara(&["logs", "web"]);
    assert!(said.code == 0 && said.err.contains("Address already in use"), "{said:?}");
}

/// Below those that the kernel gives to whoever asks for any.
fn machine_port() -> u64 {
    let free = |port: &u64| TcpStream::connect(("127.0.0.1", u16::try_from(*port).unwrap())).is_err();
    (20_000..30_000).find(free).unwrap()
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
