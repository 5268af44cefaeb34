use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs a test in a network namespace of its own, that ends with its thread; the pods' is unmounted whatever happens.
fn in_new_namespace(test: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path();
    let result = std::thread::scope(|scope| {
        scope
            .spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
                test(run_dir);
            })
            .join()
    });
    let _ = rustix::mount::unmount(dir.path().join("netns/pods"), rustix::mount::UnmountFlags::DETACH);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn wired(run_dir: &Path, ranges: &[&str]) -> Network {
    let network = Network::open(run_dir).unwrap();
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    block_on(network.wire(&ranges)).unwrap();
    network
}

fn listen(network: &Attachment, port: u16) -> TcpListener {
    let address = SocketAddr::new(network.ips[0], port);
    netns::inside(network.namespace.as_ref().unwrap(), || TcpListener::bind(address)).unwrap().unwrap()
}

fn talks(stream: &mut TcpStream, listener: &TcpListener) -> SocketAddr {
    let (mut accepted, from) = listener.accept().unwrap();
    stream.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    accepted.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    from
}

#[test]
fn the_host_reaches_each_pod_on_its_own_address_and_one_port() {
    in_new_namespace(|run_dir| {
        let network = wired(run_dir, &["10.99.0.0/24"]);
        let a = network.attach("a", Timestamp::now()).unwrap();
        let b = network.attach("b", Timestamp::now()).unwrap();
        assert_ne!(a.ips, b.ips);
        assert_ne!(a.loopback, b.loopback);
        for pod in [&a, &b] {
            // Port 80: low ports need no privilege, and both pods have theirs.
            let listener = listen(pod, 80);
            let mut stream = TcpStream::connect((pod.ips[0], 80)).unwrap();
            assert_eq!(talks(&mut stream, &listener).ip(), "10.99.0.1".parse::<IpAddr>().unwrap());
        }
    });
}

#[test]
fn a_pod_reaches_another_pod_and_the_host_from_its_own_address() {
    in_new_namespace(|run_dir| {
        let network = wired(run_dir, &["10.99.0.0/24"]);
        let a = network.attach("a", Timestamp::now()).unwrap();
        let b = network.attach("b", Timestamp::now()).unwrap();
        let connect = |to: SocketAddr| {
            netns::inside(a.namespace.as_ref().unwrap(), || {
                block_on(async {
                    let socket = tokio::net::TcpSocket::new_v4().unwrap();
                    socket.bind(SocketAddr::new(a.ips[0], 0)).unwrap();
                    socket.connect(to).await.unwrap().into_std().unwrap()
                })
            })
            .unwrap()
        };
        let pods_listener = listen(&b, 7000);
        let hosts_listener = TcpListener::bind("10.99.0.1:7000").unwrap();
        for (to, listener) in [(b.ips[0], &pods_listener), ("10.99.0.1".parse().unwrap(), &hosts_listener)] {
            let mut stream = connect(SocketAddr::new(to, 7000));
            stream.set_nonblocking(false).unwrap();
            assert_eq!(talks(&mut stream, listener).ip(), a.ips[0]);
        }
    });
}

#[test]
fn an_address_that_the_next_agent_could_not_know_is_not_given() {
    in_new_namespace(|run_dir| {
        let range = "10.99.0.0/24";
        let network = wired(run_dir, &[range]);
        let first = network.attach("a", Timestamp::now()).unwrap().ips[0];
        network.release("a", Timestamp::now()).unwrap();
        let entries = std::fs::read_dir(run_dir.join("addresses")).unwrap().count();
        assert_eq!(entries, 1, "the ledger is there");
        // In the way of the entries of the next addresses.
        let in_the_way: Vec<_> = (1..=9).map(|n| run_dir.join(format!("addresses/10.99.0.{n}.new"))).collect();
        in_the_way.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        assert!(matches!(network.attach("b", Timestamp::now()), Err(NetworkError::Ledger(_))));
        in_the_way.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
        let given = network.attach("b", Timestamp::now()).unwrap().ips;
        assert_ne!(given[0], first, "one that rests");
        drop(network);
        assert_eq!(wired(run_dir, &[range]).attach("b", Timestamp::now()).unwrap().ips, given);
    });
}

/// Brings up the loopback of the namespace that plays the host.
fn with_loopback() {
    let done = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(done.success());
}

#[test]
fn the_hosts_loopback_is_out_of_a_pods_reach() {
    in_new_namespace(|run_dir| {
        with_loopback();
        let network = wired(run_dir, &["10.99.0.0/24"]);
        let pod = network.attach("a", Timestamp::now()).unwrap();
        let on_loopback = TcpListener::bind("127.0.0.1:7000").unwrap();
        let everywhere = TcpListener::bind("0.0.0.0:7001").unwrap();
        for listener in [&on_loopback, &everywhere] {
            let port = listener.local_addr().unwrap().port();
            // Not because nobody listens: on the host it answers.
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            for address in ["127.0.0.1".parse().unwrap(), pod.loopback, pod.ips[0]] {
                let tried = netns::inside(pod.namespace.as_ref().unwrap(), || TcpStream::connect((address, port)));
                let error = tried.unwrap().unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}:{port}");
            }
        }
    });
}

#[test]
fn what_listens_on_a_pods_own_loopback_is_reached_from_inside() {
    in_new_namespace(|run_dir| {
        let network = wired(run_dir, &["10.99.0.0/24"]);
        let pod = network.attach("a", Timestamp::now()).unwrap();
        let namespace = pod.namespace.clone().unwrap();
        let address = SocketAddr::new(pod.loopback, 7000);
        let listener = netns::inside(&namespace, || TcpListener::bind(address)).unwrap().unwrap();
        let connect = super::super::connect_inside(namespace, address);
        let mut stream = block_on(async { connect.await.unwrap().into_std().unwrap() });
        stream.set_nonblocking(false).unwrap();
        assert_eq!(talks(&mut stream, &listener).ip(), pod.loopback);
    });
}

#[test]
fn a_port_that_the_host_listens_on_everywhere_is_free_for_each_pod() {
    in_new_namespace(|run_dir| {
        with_loopback();
        let network = wired(run_dir, &["10.99.0.0/24"]);
        let host = TcpListener::bind("0.0.0.0:7000").unwrap();
        for name in ["a", "b"] {
            let pod = network.attach(name, Timestamp::now()).unwrap();
            let listener = listen(&pod, 7000);
            let mut stream = TcpStream::connect((pod.ips[0], 7000)).unwrap();
            talks(&mut stream, &listener);
        }
        let mut stream = TcpStream::connect("127.0.0.1:7000").unwrap();
        talks(&mut stream, &host);
    });
}

#[test]
fn wiring_again_keeps_connections_and_addresses() {
    in_new_namespace(|run_dir| {
        let first = wired(run_dir, &["10.99.0.0/24"]);
        let a = first.attach("a", Timestamp::now()).unwrap();
        first.attach("gone", Timestamp::now()).unwrap();
        let listener = listen(&a, 80);
        let mut stream = TcpStream::connect((a.ips[0], 80)).unwrap();

        let second = wired(run_dir, &["10.99.0.0/24"]);
        assert_eq!(second.attach("a", Timestamp::now()).unwrap(), a);
        talks(&mut stream, &listener);
        second.release_all_but(&HashSet::from(["a".to_owned()]), Timestamp::now()).unwrap();
        assert_eq!(second.attach("new", Timestamp::now()).unwrap().ips, ["10.99.0.4".parse::<IpAddr>().unwrap()]);
    });
}

#[test]
fn two_ranges_give_a_pod_an_address_of_each_family() {
    in_new_namespace(|run_dir| {
        let network = wired(run_dir, &["10.99.0.0/24", "fd00:99::/64"]);
        let pod = network.attach("a", Timestamp::now()).unwrap();
        assert_eq!(pod.ips, ["10.99.0.2".parse::<IpAddr>().unwrap(), "fd00:99::2".parse().unwrap()]);
        let address = SocketAddr::new(pod.ips[1], 80);
        let listener = netns::inside(pod.namespace.as_ref().unwrap(), || TcpListener::bind(address)).unwrap().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        assert_eq!(talks(&mut stream, &listener).ip(), "fd00:99::1".parse::<IpAddr>().unwrap());
    });
}

#[test]
fn in_mode_local_a_pod_has_an_address_of_this_machine_without_any_wires() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::with_mode(dir.path(), Mode::Local).unwrap();
    assert_eq!(*network.state().borrow(), NetworkState::Ready);
    let pod = network.attach("a", Timestamp::now()).unwrap();
    assert!(pod.namespace.is_none() && pod.ips.iter().all(IpAddr::is_loopback));
    assert_eq!(network.attach("a", Timestamp::now()).unwrap(), pod);
    network.release("a", Timestamp::now()).unwrap();
}

#[test]
fn without_a_range_a_pod_is_told_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::open(dir.path()).unwrap();
    let error = network.attach("a", Timestamp::now()).unwrap_err();
    assert_eq!(error.to_string(), "network is not ready: the Node has no spec.podCIDR");
    assert_eq!(*network.state().borrow(), NetworkState::NoPodCidr);
}

#[test]
fn a_range_that_is_none_is_named_in_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::open(dir.path()).unwrap();
    let (_ranges, receiver) = watch::channel(vec!["10.99.0.0".to_owned()]);
    let mut state = network.state();
    block_on(async {
        let shutdown = CancellationToken::new();
        let keeper = tokio::spawn(network.clone().keep(receiver, shutdown.clone()));
        state.wait_for(|state| *state != NetworkState::NoPodCidr).await.unwrap();
        shutdown.cancel();
        keeper.await.unwrap();
    });
    let want = "\"10.99.0.0\" is not an address range such as 10.0.7.0/24";
    assert_eq!(*state.borrow(), NetworkState::Failed(want.to_owned()));
}
