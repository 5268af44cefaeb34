//! A registry that keeps its content elsewhere, and sends whoever wants it there.

use samara_images::{Content, Credential, Digest};

use crate::moto::Moto;
use crate::registry::{PASSWORD, Registry, USER};
use crate::{Node, module};

#[tokio::test]
async fn content_is_fetched_from_the_bucket_to_which_the_registry_sends_us() {
    const BUCKET: &str = "images";
    crate::install_tls();
    let moto = Moto::start();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let made = client.put(format!("http://{}/{BUCKET}", moto.address())).send().await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
    let registry = Registry::with_bucket(moto.address(), BUCKET);
    let bytes = module(300_000);
    let right = Credential::Basic { username: USER.into(), password: PASSWORD.into() };
    let reference = registry.push("team/app:v1", &bytes, &right).await;
    let node = Node::new();
    let image = node.puller.pull(&reference, &[right], &()).await.unwrap();
    let Content::Module { path, .. } = image.content else { panic!() };
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    let digest = Digest::of(&bytes);
    let asked = registry.asked(3).await;
    let sent = asked.iter().find(|asked| asked.target.contains(digest.as_str()) && asked.status != 401).unwrap();
    assert_eq!(sent.status, 307, "{asked:?}");
    assert!(moto.gave(digest.hex()), "nobody fetched it from the bucket");
    let error = Node::new().puller.pull(&reference, &[], &()).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}
