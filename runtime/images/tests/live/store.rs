//! What is in the store, and what leaves it.

use samara_images::{Artifact, Credential, Pusher, Reference, RootfsBuilder};

use crate::registry::Registry;
use crate::{MODULE, Node};

async fn pushed(registry: &Registry, name: &str, root: RootfsBuilder) -> Reference {
    let reference = registry.image(name);
    let artifact: Artifact = root.bytes("/app", MODULE, 0o755).unwrap().build().unwrap();
    Pusher::new(registry.config()).push(&reference, &artifact, &Credential::Anonymous, &()).await.unwrap();
    reference
}

#[tokio::test]
async fn content_goes_with_its_last_reference_and_shared_content_stays() {
    let registry = Registry::start();
    let node = Node::new();
    let one = pushed(&registry, "one:v1", RootfsBuilder::new()).await;
    let two = pushed(&registry, "two:v1", RootfsBuilder::new()).await;
    let other = pushed(&registry, "other:v1", RootfsBuilder::new().bytes("/other", "x", 0o644).unwrap()).await;
    for reference in [&one, &two, &other] {
        node.puller.pull(reference, &[], &()).await.unwrap();
    }
    // Two images of the same bytes are one: manifest, configuration and layer each.
    assert_eq!(node.count(), (6, 2, 0));
    assert!(node.store().remove(&one).unwrap());
    assert!(!node.store().remove(&one).unwrap());
    assert_eq!(node.store().collect().unwrap().unwrap().blobs, 0);
    assert!(node.store().get(&two).unwrap().is_some());
    assert!(node.store().remove(&two).unwrap());
    let collected = node.store().collect().unwrap().unwrap();
    assert_eq!((collected.blobs, collected.layers), (3, 1));
    assert!(collected.bytes > MODULE.len() as u64);
    assert_eq!(node.count(), (3, 1, 0));
    assert!(node.store().get(&other).unwrap().is_some());
}

#[tokio::test]
async fn an_image_whose_content_was_taken_away_is_pulled_again() {
    let registry = Registry::start();
    let node = Node::new();
    let reference = pushed(&registry, "app:v1", RootfsBuilder::new()).await;
    let image = node.puller.pull(&reference, &[], &()).await.unwrap();
    let samara_images::Content::Rootfs { layers } = &image.content else { panic!("{image:?}") };
    std::fs::remove_dir_all(&layers[0]).unwrap();
    assert_eq!(node.store().get(&reference).unwrap(), None);
    assert_eq!(node.store().list().unwrap(), []);
    assert_eq!(node.puller.pull(&reference, &[], &()).await.unwrap(), image);
}

#[tokio::test]
async fn a_damaged_record_is_as_good_as_none() {
    let registry = Registry::start();
    let node = Node::new();
    let reference = pushed(&registry, "app:v1", RootfsBuilder::new()).await;
    node.puller.pull(&reference, &[], &()).await.unwrap();
    for entry in std::fs::read_dir(node.store().root().join("references")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert_eq!(node.store().get(&reference).unwrap(), None);
    assert_eq!(node.store().list().unwrap(), []);
    node.puller.pull(&reference, &[], &()).await.unwrap();
    assert!(node.store().get(&reference).unwrap().is_some());
}

#[tokio::test]
async fn an_image_is_listed_with_all_its_names() {
    let registry = Registry::start();
    let node = Node::new();
    let one = pushed(&registry, "one:v1", RootfsBuilder::new()).await;
    let two = pushed(&registry, "one:v2", RootfsBuilder::new()).await;
    let image = node.puller.pull(&one, &[], &()).await.unwrap();
    node.puller.pull(&two, &[], &()).await.unwrap();
    let listed = node.store().list().unwrap();
    let [stored] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(stored.references, [one, two, image.pinned()]);
    assert_eq!((&stored.digest, stored.size), (&image.digest, image.size));
    assert!(node.store().remove_image(&image.digest).unwrap());
    assert_eq!(node.store().list().unwrap(), []);
}

#[test]
fn only_root_may_look_into_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    let mode = std::fs::metadata(node.store().root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
