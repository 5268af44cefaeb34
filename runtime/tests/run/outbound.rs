//! Requests that guests send.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use samara_runtime::World;

use crate::http::Server;
use crate::namespace::{inside, pod};
use crate::wasm;

crate::trials![
    a_request_goes_out_under_the_pods_address,
    connections_are_kept_for_the_next_request,
    names_and_localhost_mean_what_they_mean_to_sockets,
    no_loopback_but_the_pods_own_is_reached_by_an_ipv4_address_in_ipv6_clothes,
    errors_say_what_went_wrong,
    a_server_trusted_by_the_guests_own_file_is_reached_by_tls,
    a_certificate_of_an_unknown_authority_is_refused,
];

/// Answers every request with `text`; counts connections and tells who came.
struct Site {
    connections: Arc<AtomicUsize>,
    peers: mpsc::Receiver<SocketAddr>,
    address: SocketAddr,
}

impl Site {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (sender, peers) = mpsc::channel();
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                count.fetch_add(1, Ordering::Relaxed);
                if sender.send(peer).is_err() {
                    return;
                }
                thread::spawn(move || serve(stream));
            }
        });
        Self { connections, peers, address }
    }
}

fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line.ends_with("\r\n\r\n") || line == "\r\n" {
            let body = format!("site {}", line.split(' ').nth(1).unwrap_or_default());
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
            line.clear();
        }
    }
}

fn in_pod(n: u8) -> impl Fn(&mut World) {
    move |world| world.network = pod(n)
}

fn a_request_goes_out_under_the_pods_address() {
    inside(|| {
        let site = Site::start("10.88.0.9:0");
        let server = Server::start(in_pod(1), |_| {});
        let answer = server.get(&format!("/fetch?http://{}/path", site.address));
        assert_eq!(answer, (200, "200 site /path".into()));
        assert_eq!(site.peers.recv().unwrap().ip(), IpAddr::from([10, 88, 0, 1]));
    });
}

fn connections_are_kept_for_the_next_request() {
    inside(|| {
        let site = Site::start("10.88.0.9:0");
        let server = Server::start(in_pod(1), |_| {});
        for _ in 0..5 {
            assert_eq!(server.get(&format!("/fetch?http://{}/", site.address)).0, 200);
        }
        assert_eq!(site.connections.load(Ordering::Relaxed), 1, "though every request had an instance of its own");
    });
}

fn names_and_localhost_mean_what_they_mean_to_sockets() {
    inside(|| {
        let site = Site::start("10.88.0.1:0");
        let port = site.address.port();
        let world = |world: &mut World| {
            world.network = pod(1);
            world.network.dns.hosts = vec![("10.88.0.1".parse().unwrap(), vec!["web.example".into()])];
        };
        let server = Server::start(world, |_| {});
        for host in ["web.example", "localhost", "127.0.0.1"] {
            assert_eq!(server.get(&format!("/fetch?http://{host}:{port}/")), (200, "200 site /".into()), "{host}");
        }
    });
}

fn no_loopback_but_the_pods_own_is_reached_by_an_ipv4_address_in_ipv6_clothes() {
    inside(|| {
        let shared = Site::start("127.0.0.1:0");
        let (port, server) = (shared.address.port(), Server::start(in_pod(1), |_| {}));
        let _others = TcpListener::bind(("127.88.0.2", port)).unwrap();
        for (host, error) in [
            ("::ffff:127.0.0.1", "ConnectionRefused"),
            ("::ffff:0.0.0.0", "ConnectionRefused"),
            ("::ffff:127.88.0.2", "DestinationIpProhibited"),
        ] {
            let (status, text) = server.get(&format!("/fetch?http://[{host}]:{port}/"));
            assert!(status == 502 && text.contains(error), "{host}: {status} {text}");
        }
        assert_eq!(shared.connections.load(Ordering::Relaxed), 0);
        let _own = Site::start(&format!("10.88.0.1:{port}"));
        let answer = server.get(&format!("/fetch?http://[::ffff:127.0.0.1]:{port}/"));
        assert_eq!(answer, (200, "200 site /".into()));
    });
}

fn errors_say_what_went_wrong() {
    inside(|| {
        let _others = TcpListener::bind("127.88.0.2:7000").unwrap();
        let server = Server::start(in_pod(1), |_| {});
        for (url, error) in [
            ("http://10.88.0.9:7001/", "ConnectionRefused"),
            ("http://127.88.0.2:7000/", "DestinationIpProhibited"),
            ("http://nowhere.example/", "DnsError"),
            ("http://192.0.2.1/", "DestinationIpUnroutable"),
        ] {
            let (status, text) = server.get(&format!("/fetch?{url}"));
            assert!(status == 502 && text.contains(error), "{url}: {status} {text}");
        }
    });
}

/// A TLS server with a certificate of its own authority; gives the authority's certificate.
fn tls_site() -> (SocketAddr, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["secure.example".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let listener = TcpListener::bind("10.88.0.9:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = BufReader::new(rustls::Stream::new(&mut connection, &mut stream));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && tls.read_line(&mut head).is_ok_and(|read| read > 0) {}
            // The client may have hung up on our certificate.
            let _ = tls.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure");
        }
    });
    (address, pem)
}

fn fetch_tls(address: SocketAddr, files: impl FnOnce(&std::path::Path), env: Option<&str>) -> (u16, String) {
    let world = |world: &mut World| {
        world.network = pod(1);
        world.network.dns.hosts = vec![(address.ip(), vec!["secure.example".into(), "other.example".into()])];
        world.env.extend(env.map(|file| ("SSL_CERT_FILE".into(), file.into())));
    };
    Server::start(world, files).get(&format!("/fetch?https://secure.example:{}/", address.port()))
}

fn a_server_trusted_by_the_guests_own_file_is_reached_by_tls() {
    inside(|| {
        let (address, pem) = tls_site();
        let own = |root: &std::path::Path| fs::write(root.join("ca.crt"), &pem).unwrap();
        assert_eq!(fetch_tls(address, own, Some("/ca.crt")), (200, "200 secure".into()));
        let image = |root: &std::path::Path| {
            fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
            fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), &pem).unwrap();
        };
        assert_eq!(fetch_tls(address, image, None), (200, "200 secure".into()));
    });
}

fn a_certificate_of_an_unknown_authority_is_refused() {
    inside(|| {
        let (address, _) = tls_site();
        let (status, text) = fetch_tls(address, |_| {}, None);
        assert!(status == 502 && text.contains("TlsCertificateError"), "{status} {text}");
        let (status, text) = fetch_tls(address, |_| {}, Some("/missing.crt"));
        assert!(status == 502 && text.contains("SSL_CERT_FILE /missing.crt"), "{status} {text}");
        let empty = |root: &std::path::Path| fs::write(root.join("ca.crt"), "nothing").unwrap();
        let (status, text) = fetch_tls(address, empty, Some("/ca.crt"));
        assert!(status == 502 && text.contains("no certificate in it"), "{status} {text}");
        let _ = wasm::host();
    });
}
