//! Several pulls at once, and pulls that do not end.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use samara_images::{Content, Digest, ImageStore, Puller, PullerConfig};
use tokio::sync::Notify;

use crate::script::{Documents, Fault, Script};
use crate::{Node, module};

#[tokio::test]
async fn two_pulls_of_one_image_fetch_it_once() {
    let bytes = module(400_000);
    let served = Documents::of(&bytes);
    let script = Script::start(move |request| served.answer(request)).await;
    let node = Node::new();
    let reference = script.image();
    let images = join_all((0..8).map(|_| node.puller.pull(&reference, &[], &()))).await;
    let digests: Vec<Digest> = images.into_iter().map(|image| image.unwrap().digest).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(script.fetched(&Digest::of(&bytes)), 1);
    assert_eq!(node.count().2, 0);
}

#[tokio::test]
async fn two_stores_on_one_directory_do_not_disturb_each_other() {
    let bytes = module(400_000);
    let served = Documents::of(&bytes);
    let script = Script::start(move |request| served.answer(request)).await;
    let node = Node::new();
    let second = ImageStore::open(node.store().root()).unwrap();
    let second = Puller::new(second, PullerConfig::default());
    let reference = script.image();
    let (one, other) = tokio::join!(node.puller.pull(&reference, &[], &()), second.pull(&reference, &[], &()));
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn a_pull_that_is_given_up_in_the_middle_leaves_nothing_and_the_next_one_works() {
    let bytes = module(100_000);
    let served = Documents::of(&bytes);
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let slow = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_slow = Arc::clone(&slow);
    let script = Script::start(move |request| {
        if !served.wants_layer(request) || !is_slow.load(std::sync::atomic::Ordering::Relaxed) {
            return served.answer(request);
        }
        tell.notify_one();
        served.answer(request).fault(Fault::Trickle(Duration::from_secs(1)))
    })
    .await;
    let node = Node::new();
    let reference = script.image();
    tokio::select! {
        result = node.puller.pull(&reference, &[], &()) => panic!("{result:?}"),
        () = begun.notified() => {}
    }
    assert_eq!(node.store().list().unwrap(), []);
    slow.store(false, std::sync::atomic::Ordering::Relaxed);
    let image = node.puller.pull(&reference, &[], &()).await.unwrap();
    let Content::Module { path, .. } = image.content else { panic!() };
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert_eq!(node.store().collect().unwrap().map(|it| it.blobs), Some(0));
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_when_the_store_is_opened() {
    let node = Node::new();
    let dead = node.store().root().join("tmp/dead");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("half a blob"), "x").unwrap();
    std::fs::create_dir(dead.join("half a layer")).unwrap();
    let again = ImageStore::open(node.store().root()).unwrap();
    assert!(!dead.exists());
    // The living one's is not touched.
    let owned = std::fs::read_dir(again.root().join("tmp")).unwrap().flatten().filter(|it| it.path().is_dir()).count();
    assert_eq!(owned, 2);
}

#[tokio::test]
async fn nothing_is_collected_while_an_image_is_being_added() {
    let served = Documents::of(&module(100_000));
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let script = Script::start(move |request| match served.wants_layer(request) {
        true => {
            tell.notify_one();
            served.answer(request).fault(Fault::Trickle(Duration::from_millis(50)))
        }
        false => served.answer(request),
    })
    .await;
    let node = Node::new();
    let reference = script.image();
    let pulls = node.puller.pull(&reference, &[], &());
    let looks = async {
        begun.notified().await;
        let store = node.store().clone();
        tokio::task::spawn_blocking(move || store.collect()).await.unwrap().unwrap()
    };
    tokio::select! {
        result = pulls => panic!("{result:?}"),
        collected = looks => assert_eq!(collected, None),
    }
}
