//! Ways to the real registry: one that breaks again and again, and one that lets requests pass only together.

use std::sync::Arc;
use std::time::Duration;

use samara_images::{Content, Credential, Digest, PullerConfig, Reference, RegistryConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::raw::Raw;
use crate::registry::Registry;
use crate::{MODULE, Node, module};

/// Connections to this address are connections to a registry.
struct Way {
    address: String,
    _server: JoinSet<()>,
}

impl Way {
    /// `carry` does with each connection what it likes.
    async fn to<F>(registry: &Registry, carry: impl Fn(TcpStream, TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let to = registry.address().to_owned();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // One that breaks off is what this is for.
                if let Ok(server) = TcpStream::connect(&to).await {
                    carried.spawn(carry(client, server));
                }
            }
        });
        Self { address, _server: server }
    }

    /// Each connection ends when so much has come back on it.
    async fn that_breaks_after(registry: &Registry, most: u64) -> Self {
        Self::to(registry, move |mut client, mut server| async move {
            let ((mut asks, mut hears), (answers, mut is_asked)) = (client.split(), server.split());
            let mut answers = answers.take(most);
            tokio::select! {
                done = tokio::io::copy(&mut asks, &mut is_asked) => done.map(drop),
                done = tokio::io::copy(&mut answers, &mut hears) => done.map(drop),
            }
        })
        .await
    }

    /// The first request on each connection is answered; at the next one the connection ends.
    async fn that_answers_once(registry: &Registry) -> Self {
        Self::to(registry, |mut client, mut server| async move {
            let ((mut asks, mut hears), (mut answers, mut is_asked)) = (client.split(), server.split());
            let requests = async {
                let mut request = vec![0; 64 << 10];
                let length = asks.read(&mut request).await?;
                is_asked.write_all(&request[..length]).await?;
                asks.read(&mut request).await.map(drop)
            };
            tokio::select! {
                done = requests => done,
                done = tokio::io::copy(&mut answers, &mut hears) => done.map(drop),
            }
        })
        .await
    }

    /// A request for one of these blobs passes when as many of them are under way as there are blobs.
    async fn that_gathers(registry: &Registry, blobs: Vec<Digest>) -> Self {
        let all_are_here = Arc::new(Barrier::new(blobs.len()));
        let blobs = Arc::new(blobs);
        Self::to(registry, move |mut client, mut server| {
            let (all_are_here, blobs) = (Arc::clone(&all_are_here), Arc::clone(&blobs));
            async move {
                let ((mut asks, mut hears), (mut answers, mut is_asked)) = (client.split(), server.split());
                let requests = async {
                    let mut request = vec![0; 64 << 10];
                    loop {
                        // A request without a body, of one who waits for the answer: it comes in one piece.
                        let length = asks.read(&mut request).await?;
                        let text = String::from_utf8_lossy(&request[..length]);
                        if blobs.iter().any(|blob| text.contains(&format!("/blobs/{blob} "))) {
                            all_are_here.wait().await;
                        }
                        is_asked.write_all(&request[..length]).await?;
                        if length == 0 {
                            return Ok(());
                        }
                    }
                };
                tokio::select! {
                    done = requests => done,
                    done = tokio::io::copy(&mut answers, &mut hears) => done.map(drop),
                }
            }
        })
        .await
    }

    fn image(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.address)).unwrap()
    }
}

#[tokio::test]
async fn a_download_on_a_way_that_breaks_goes_on_where_it_stopped() {
    let registry = Registry::start();
    let bytes = module(10 << 20);
    registry.push("app:v1", &bytes, &Credential::Anonymous).await;
    let way = Way::that_breaks_after(&registry, 3 << 20).await;
    let node = Node::new();
    let image = node.puller.pull(&way.image("app:v1"), &[], &()).await.unwrap();
    let Content::Module { path, digest, .. } = image.content else { panic!() };
    assert!(std::fs::read(path).unwrap() == bytes, "other bytes");
    // Manifest and configuration, and the module in four pieces, of which no byte is fetched twice.
    let asked = registry.asked(6).await;
    let asked: Vec<u16> = asked.iter().filter(|it| it.target.contains(digest.as_str())).map(|it| it.status).collect();
    assert_eq!(asked, [200, 206, 206, 206]);
    // On a way that lets too little pass it is given up.
    let way = Way::that_breaks_after(&registry, 1 << 20).await;
    let node = Node::with(PullerConfig { resumes: 2, ..PullerConfig::default() });
    let error = node.puller.pull(&way.image("app:v1"), &[], &()).await.unwrap_err();
    assert!(error.to_string().contains(&way.address), "{error}");
}

#[tokio::test]
async fn a_connection_that_is_closed_when_it_is_used_again_is_replaced() {
    let registry = Registry::start();
    registry.push("app:v1", &module(100_000), &Credential::Anonymous).await;
    let way = Way::that_answers_once(&registry).await;
    let node = Node::with(PullerConfig { resumes: 0, ..PullerConfig::default() });
    node.puller.pull(&way.image("app:v1"), &[], &()).await.unwrap();
}

#[tokio::test]
async fn layers_of_an_image_are_under_way_together() {
    let registry = Registry::start();
    let layers = ["one", "two", "app.wasm"].map(|name| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(MODULE.len() as u64);
        archive.append_data(&mut header, name, MODULE).unwrap();
        archive.into_inner().unwrap()
    });
    let digests: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({
        "os": "wasip1", "architecture": "wasm", "config": {"Entrypoint": ["/app.wasm"]},
        "rootfs": {"type": "layers", "diff_ids": digests},
    });
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let listed: Vec<(&str, &[u8])> = layers.iter().map(|layer| (kind, layer.as_slice())).collect();
    let raw = Raw::new(registry.address());
    let (manifest, config_type) =
        ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json");
    raw.image(manifest, (config_type, &config), &listed).await;
    let way = Way::that_gathers(&registry, digests.clone()).await;
    let image = Node::new().puller.pull(&way.image("app:v0"), &[], &()).await.unwrap();
    assert!(matches!(image.content, Content::Rootfs { layers } if layers.len() == 3));
    // Who fetches one after the other waits at the gate in vain.
    let way = Way::that_gathers(&registry, digests).await;
    let registries = RegistryConfig { read_timeout: Duration::from_millis(300), ..RegistryConfig::default() };
    let registries = RegistryConfig { connect_timeout: Duration::from_millis(300), ..registries };
    let alone = PullerConfig { registries, parallel_layers: 1, resumes: 0, ..PullerConfig::default() };
    let error = Node::with(alone).puller.pull(&way.image("app:v0"), &[], &()).await.unwrap_err();
    assert!(error.to_string().contains("nothing came for"), "{error}");
}
