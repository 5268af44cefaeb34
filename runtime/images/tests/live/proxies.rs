//! Registries that are reached through somebody else.

use samara_images::{Artifact, Credential, Proxy, Pusher, Reference, RegistryConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::registry::Registry;
use crate::script::{Documents, Script};
use crate::{MODULE, Node};

#[tokio::test]
async fn a_proxy_is_asked_for_registries_without_tls_but_never_for_this_machine() {
    let served = Documents::of(MODULE);
    let own = served.clone();
    let proxy = Script::start(move |request| served.answer(request)).await;
    let local = Script::start(move |request| own.answer(request)).await;
    let config = RegistryConfig {
        plain_http: vec!["registry.test".into(), "except.test".into()],
        proxy: Some(Proxy {
            http: Some(format!("http://{}", proxy.address())),
            https: None,
            except: "except.test".into(),
        }),
        ..RegistryConfig::default()
    };
    let node = Node::trusting(config);
    let reference = Reference::parse("registry.test/app:v1").unwrap();
    node.puller.pull(&reference, &[], &()).await.unwrap();
    let asked = proxy.asked();
    assert!(asked.iter().all(|it| it.target.starts_with("http://registry.test/v2/app/")), "{asked:?}");
    node.puller.pull(&local.image(), &[], &()).await.unwrap();
    assert!(node.puller.pull(&Reference::parse("except.test/app:v1").unwrap(), &[], &()).await.is_err());
    assert_eq!(proxy.asked().len(), asked.len());
}

/// Connects all who ask with one address, and tells whom they asked for.
async fn tunnel(to: String) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (tell, to) = (tell.clone(), to.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let _ = tell.send(head.lines().next().unwrap_or_default().to_owned());
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut client, &mut TcpStream::connect(to).await?).await
            });
        }
    });
    (address, told)
}

#[tokio::test]
async fn a_registry_with_tls_is_reached_through_a_tunnel() {
    let registry = Registry::with_tls();
    let (proxy, mut told) = tunnel(registry.address().to_owned()).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("registry.test")).unwrap();
    // Its certificate is for another name.
    std::fs::write(directory.path().join("registry.test/hosts.toml"), "skip_verify = true\n").unwrap();
    let config = RegistryConfig {
        proxy: Some(Proxy { http: None, https: Some(format!("http://{proxy}")), except: String::new() }),
        hosts_dir: Some(directory.path().to_owned()),
        ..RegistryConfig::default()
    };
    crate::install_tls();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), MODULE).unwrap();
    let reference = Reference::parse("registry.test/app:v1").unwrap();
    let artifact = Artifact::wasm(file.path()).unwrap();
    Pusher::new(config.clone()).push(&reference, &artifact, &Credential::Anonymous, &()).await.unwrap();
    Node::trusting(config).puller.pull(&reference, &[], &()).await.unwrap();
    assert_eq!(told.recv().await.unwrap(), "CONNECT registry.test:443 HTTP/1.1");
}
