//! Another client of the same registry: `oci-client`, the maintained successor of `oci-distribution`.

use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Theirs};
use proptest::prelude::*;
use samara_images::{Artifact, Content, Credential, Pusher, Reference};

use crate::registry::Registry;
use crate::{Node, module};

fn client() -> Client {
    crate::install_tls();
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

#[tokio::test]
async fn what_oci_client_pushes_is_pulled() {
    let registry = Registry::start();
    let reference = registry.image("theirs:v1");
    let theirs: Theirs = reference.to_string().parse().unwrap();
    let bytes = module(20_000);
    for (layer, config) in [
        ("application/wasm", "application/vnd.wasm.config.v0+json"),
        // wasm-to-oci, Krustlet and Spin
        ("application/vnd.wasm.content.layer.v1+wasm", "application/vnd.wasm.config.v1+json"),
    ] {
        let layers = [ImageLayer::new(bytes.clone(), layer.to_owned(), None)];
        let config = Config::new(b"{}".to_vec(), config.to_owned(), None);
        client().push(&theirs, &layers, config, &RegistryAuth::Anonymous, None).await.unwrap();
        let node = Node::new();
        let image = node.puller.pull(&reference, &[], &()).await.unwrap();
        let Content::Module { path, .. } = image.content else { panic!() };
        assert_eq!(std::fs::read(path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn what_we_push_oci_client_pulls() {
    let registry = Registry::start();
    let reference = registry.image("ours:v1");
    let bytes = module(20_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let artifact = Artifact::wasm(file.path()).unwrap();
    let client = client();
    Pusher::new(registry.config()).push(&reference, &artifact, &Credential::Anonymous, &()).await.unwrap();
    let theirs: Theirs = reference.to_string().parse().unwrap();
    let pulled = client.pull(&theirs, &RegistryAuth::Anonymous, vec!["application/wasm"]).await.unwrap();
    assert_eq!(pulled.layers.len(), 1);
    assert_eq!(pulled.layers[0].data, bytes);
    assert_eq!(pulled.digest.as_deref(), Some(artifact.digest().as_str()));
}

proptest! {
    /// Names mean the same to both, where both take them.
    #[test]
    fn names_are_read_as_oci_client_reads_them(
        text in "([a-z]{1,4}(\\.[a-z]{2,3})?(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?(/[a-z]{1,4})?(:[A-Za-z0-9_.-]{1,5})?",
    ) {
        if let (Ok(ours), Ok(theirs)) = (Reference::parse(&text), text.parse::<Theirs>()) {
            prop_assert_eq!(ours.registry(), theirs.registry());
            prop_assert_eq!(ours.repository(), theirs.repository());
            prop_assert_eq!(ours.tag(), theirs.tag());
        }
    }
}
