//! Images from a registry that sets the pace, and from one that does not answer.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;
use samara_images::{ImageStore, Puller, PullerConfig, Reference, RegistryConfig};

use super::flights::Flights;
use super::{Failure, Images, PullLimits, Rules, Wish};
use crate::pods::tests::registry::FakeRegistry;
use crate::{Compile, CompileError};

struct Nothing;

#[async_trait]
impl Compile for Nothing {
    async fn ensure(&self, _: std::fs::File, _: &str) -> Result<(), CompileError> {
        Ok(())
    }

    fn forget(&self, _: &str) -> Result<(), CompileError> {
        Ok(())
    }
}

/// Says no to everybody, for so many seconds, and counts them.
async fn busy(seconds: u32) -> (String, Arc<Mutex<usize>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked: Arc<Mutex<usize>> = Arc::default();
    let count = asked.clone();
    let answer = move || {
        *count.lock().unwrap() += 1;
        async move { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]) }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, asked)
}

async fn ensure(images: &Images, image: &str) -> Failure {
    let container = Container { image: Some(image.to_owned()), ..Container::default() };
    let secrets = BTreeMap::new();
    let wish = Wish {
        pod_uid: "uid",
        namespace: "shop",
        container: &container,
        secrets: &secrets,
        account: None,
        record: &|_| {},
    };
    images.ensure(wish).await.unwrap_err()
}

#[tokio::test]
async fn a_registry_that_asks_for_a_pause_is_not_asked_before_its_end() {
    // As the binary does; the second time it is there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&directory.path().join("images")).unwrap();
    let puller = Puller::new(store, PullerConfig::default());
    let images = Images::open(puller, directory.path().join("records"), Rules::default(), Arc::new(Nothing)).unwrap();
    let (address, asked) = busy(600).await;
    let image = format!("{address}/app:1");
    let began = Timestamp::now();
    let failure = ensure(&images, &image).await;
    assert_eq!(failure.reason, "ErrImagePull");
    assert!(failure.message.contains("429") && failure.message.contains("600 s"), "{}", failure.message);
    let before = *asked.lock().unwrap();
    let failure = ensure(&images, &image).await;
    assert_eq!(failure.reason, "ImagePullBackOff");
    assert!(failure.retry_at >= began + SignedDuration::from_secs(600), "{failure:?}");
    assert_eq!(*asked.lock().unwrap(), before);
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_any_more_gives_its_place_and_its_layers_to_others() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let registry = FakeRegistry::start().await;
    for parallel in [Some(1), None] {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&directory.path().join("images")).unwrap();
        let registries = RegistryConfig { plain_http: vec![registry.address.to_string()], ..RegistryConfig::default() };
        let puller = Puller::new(store, PullerConfig { registries, ..PullerConfig::default() });
        let flights = Flights::new(puller, PullLimits { parallel, ..PullLimits::default() });
        // The same wasm is in both.
        let reference = |name: &str| Reference::parse(&format!("{}/{name}:1", registry.address)).unwrap();
        let (first, second) = (reference("first"), reference("second"));

        let is_silent = registry.keep_silent_once();
        let mut left = Box::pin(flights.pull(&first, Vec::new()));
        tokio::select! {
            pulled = &mut left => panic!("nobody answered: {pulled:?}"),
            () = is_silent => {}
        }
        let mut waiting = pin!(flights.pull(&second, Vec::new()));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(left);
        let pulled = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert_eq!(pulled.expect("it does not wait for ever").unwrap().image.reference, second);
    }
}
