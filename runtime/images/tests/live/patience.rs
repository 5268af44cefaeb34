//! Registries that are slow, or want to be asked later; and how little is asked of one that has nothing new.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use samara_images::{Digest, PullCause, PullerConfig, RegistryConfig, RegistryFailure, Retry};

use crate::script::{Documents, Fault, Reply, Script};
use crate::{MODULE, Node};

#[tokio::test]
async fn a_registry_that_wants_a_short_pause_gets_it() {
    let served = Documents::of(MODULE);
    let asked = AtomicUsize::new(0);
    let script = Script::start(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::status(429, "slow down").header("Retry-After", "1"),
        2 => Reply::status(503, "").header("Retry-After", "0"),
        _ => served.answer(request),
    })
    .await;
    let begun = Instant::now();
    Node::new().puller.pull(&script.image(), &[], &()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_rate_limit_is_told_with_the_time_to_come_back() {
    let script = Script::start(|_| Reply::status(429, "toomanyrequests").header("Retry-After", "3600")).await;
    let error = Node::new().puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later(Some(Duration::from_secs(3600))));
    let text = error.to_string();
    assert!(
        text.ends_with("rate limited, too many requests (429): toomanyrequests; it says to come back in 3600 s"),
        "{text}"
    );
    assert_eq!(script.asked().len(), 1);
    // One that says so for ever is not waited for for ever.
    let script = Script::start(|_| Reply::status(429, "").header("Retry-After", "0")).await;
    let error = Node::new().puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later(Some(Duration::ZERO)));
    assert_eq!(script.asked().len(), 3);
}

#[tokio::test]
async fn every_answer_has_a_time_in_which_to_come() {
    for slow in ["nothing", "manifest", "configuration", "error"] {
        let served = Documents::of(MODULE);
        let script = Script::start(move |request| {
            let is_manifest = request.path().contains("/manifests/");
            let trickle = Fault::Trickle(Duration::from_millis(50));
            match slow {
                "nothing" => Reply::ok("").fault(Fault::Silent),
                "manifest" if is_manifest => served.answer(request).fault(trickle),
                "error" if is_manifest => Reply::status(500, &"x".repeat(10_000)).fault(trickle),
                "configuration" if !is_manifest && !served.wants_layer(request) => {
                    served.answer(request).fault(trickle)
                }
                _ => served.answer(request),
            }
        })
        .await;
        let registries = RegistryConfig {
            connect_timeout: Duration::from_millis(500),
            read_timeout: Duration::from_millis(500),
            document_timeout: Duration::from_millis(500),
            ..RegistryConfig::default()
        };
        let node = Node::with(PullerConfig { registries, resumes: 0, ..PullerConfig::default() });
        let begun = Instant::now();
        let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10), "{slow}: {:?}", begun.elapsed());
        let PullCause::Registry(cause) = &error.cause else { panic!("{slow}: {error}") };
        match slow {
            "error" => assert!(matches!(cause.failure, RegistryFailure::Server { .. }), "{error}"),
            _ => assert!(matches!(cause.failure, RegistryFailure::Timeout(_)), "{error}"),
        }
    }
}

#[tokio::test]
async fn an_image_that_did_not_change_is_not_asked_for_again() {
    let served = Documents::of(MODULE);
    let digest = Digest::of(&served.manifest);
    let script = Script::start(move |request| {
        let reply = served.answer(request);
        match request.method.as_str() {
            "HEAD" => reply.header("Docker-Content-Digest", digest.to_string()),
            _ => reply,
        }
    })
    .await;
    let node = Node::new();
    let first = node.puller.pull(&script.image(), &[], &()).await.unwrap();
    let before = script.asked().len();
    assert!(script.asked().iter().all(|request| request.method == "GET"));
    assert_eq!(node.puller.pull(&script.image(), &[], &()).await.unwrap(), first);
    assert_eq!(node.puller.pull(&first.pinned(), &[], &()).await.unwrap().digest, first.digest);
    let after: Vec<String> = script.asked()[before..].iter().map(|request| request.method.clone()).collect();
    assert_eq!(after, ["HEAD", "HEAD"]);
}
