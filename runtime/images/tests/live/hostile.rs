//! Registries that fail, lie or never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use samara_images::{Content, Digest, PullCause, PullError, PullerConfig, Refusal, RegistryFailure, Retry};
use serde_json::json;

use crate::script::{Documents, Fault, Reply, Script};
use crate::{MODULE, Node, module};

#[expect(clippy::wildcard_enum_match_arm, reason = "any other cause fails the test")]
fn failure(error: &PullError) -> &RegistryFailure {
    match &error.cause {
        PullCause::Registry(error) => &error.failure,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn each_status_has_its_own_meaning_and_words() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"this is not for you"}]}"#;
    let cases = [
        (401, "", "authentication is required or was refused (401)"),
        (403, denied, "access is denied (403): this is not for you"),
        (404, "", "not found (404)"),
        (429, "slow down", "rate limited, too many requests (429): slow down"),
        (500, "panic\n\tin main", "has an internal error (500): panic in main"),
        (503, "", "has an internal error (503)"),
        (418, "", "gave an unexpected answer: status 418"),
    ];
    for (status, body, words) in cases {
        let script = Script::start(move |request| match request.target.as_str() {
            "/v2/" => Reply::ok("{}"),
            _ => Reply::status(status, body),
        })
        .await;
        let error = Node::new().puller.pull(&script.image(), &[], &()).await.unwrap_err();
        let expected = format!("failed to pull image \"{}\": registry {}: {words}", script.image(), script.address());
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.retry(), Retry::Later(None));
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let bytes = module(100_000);
    let documents = Documents::of(&bytes);
    let cuts = Arc::new(AtomicUsize::new(0));
    let served = documents.clone();
    let script = Script::start(move |request| {
        if !served.wants_layer(request) {
            return served.answer(request);
        }
        let reply = Reply::range(&served.layer, request);
        match cuts.fetch_add(1, Ordering::Relaxed) {
            0..3 => reply.fault(Fault::CutAfter(30_000)),
            _ => reply,
        }
    })
    .await;
    let node = Node::new();
    let image = node.puller.pull(&script.image(), &[], &()).await.unwrap();
    let Content::Module { path, .. } = &image.content else { panic!("{image:?}") };
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    let offsets: Vec<usize> =
        script.asked().iter().filter(|it| documents.wants_layer(it)).map(crate::script::Request::offset).collect();
    assert_eq!(offsets.len(), 4);
    assert!(offsets.is_sorted() && offsets[3] > 0, "{offsets:?}");
}

#[tokio::test]
async fn a_registry_without_ranges_is_asked_again_from_the_beginning() {
    let bytes = module(50_000);
    let served = Documents::of(&bytes);
    let cuts = AtomicUsize::new(0);
    let script = Script::start(move |request| {
        let reply = served.answer(request);
        match served.wants_layer(request) && cuts.fetch_add(1, Ordering::Relaxed) == 0 {
            true => reply.fault(Fault::CutAfter(20_000)),
            false => reply,
        }
    })
    .await;
    let node = Node::new();
    let image = node.puller.pull(&script.image(), &[], &()).await.unwrap();
    let Content::Module { path, .. } = &image.content else { panic!("{image:?}") };
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

#[tokio::test]
async fn a_connection_that_is_always_cut_ends_as_broken_off() {
    let served = Documents::of(&module(50_000));
    let script = Script::start(move |request| {
        let reply = served.answer(request);
        match served.wants_layer(request) {
            true => reply.fault(Fault::CutAfter(0)),
            false => reply,
        }
    })
    .await;
    let node = Node::with(PullerConfig { resumes: 2, ..PullerConfig::default() });
    let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert!(matches!(failure(&error), RegistryFailure::BrokeOff(_)), "{error}");
    assert_eq!(error.retry(), Retry::Now);
    assert_eq!(node.store().list().unwrap(), []);
}

#[tokio::test]
async fn content_that_is_not_what_it_is_called_is_never_kept() {
    let good = module(5000);
    let mut other = good.clone();
    other[100] ^= 1;
    let lie = Documents::claiming(&other, other.len(), &Digest::of(&good));
    let script = Script::start(move |request| lie.answer(request)).await;
    let node = Node::new();
    let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert!(matches!(&error.cause, PullCause::Digest { expected, .. } if *expected == Digest::of(&good)), "{error}");
    assert!(error.to_string().contains("its digest is"), "{error}");
    assert_eq!(node.store().get(&script.image()).unwrap(), None);
    assert_eq!(node.store().list().unwrap(), []);
}

#[tokio::test]
async fn a_manifest_that_lies_about_sizes_is_caught_both_ways() {
    let bytes = module(5000);
    for (claimed, resumes) in [(4000, 5), (6000, 1)] {
        let lie = Documents::claiming(&bytes, claimed, &Digest::of(&bytes));
        let script = Script::start(move |request| lie.answer(request)).await;
        let node = Node::with(PullerConfig { resumes, ..PullerConfig::default() });
        let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
        let told = error.to_string();
        assert!(told.contains("4000") || told.contains("after 5000 of 6000 bytes"), "{error}");
        assert_eq!(node.store().list().unwrap(), []);
    }
}

#[tokio::test]
async fn what_is_no_wasm_is_refused_by_its_first_bytes_and_not_fetched_whole() {
    let mut precompiled = b"\x7fELF\x02\x01\x01\xc8".to_vec();
    precompiled.resize(64 << 20, 0);
    let cases = [
        (precompiled, Refusal::Precompiled("wasmtime")),
        (b"\x7fELF\x02\x01\x01\x00 busybox".to_vec(), Refusal::NotWasm("a native executable (ELF)".into())),
        (b"hello".to_vec(), Refusal::NotWasm("unknown (it starts with 68 65 6c 6c)".into())),
        (MODULE[..6].to_vec(), Refusal::NotWasm("a truncated WebAssembly header".into())),
        (Vec::new(), Refusal::NotWasm("empty".into())),
    ];
    for (bytes, refusal) in cases {
        let served = Documents::of(&bytes);
        let script = Script::start(move |request| served.answer(request)).await;
        let node = Node::new();
        let begun = Instant::now();
        let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
        assert!(matches!(&error.cause, PullCause::Refused(refused) if *refused == refusal), "{error}");
        assert_eq!(error.retry(), Retry::Never);
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(node.store().list().unwrap(), []);
    }
}

#[tokio::test]
async fn a_trickle_is_given_up() {
    let served = Documents::of(&module(100_000));
    let script = Script::start(move |request| {
        let reply = served.answer(request);
        match served.wants_layer(request) {
            true => reply.fault(Fault::Trickle(Duration::from_millis(20))),
            false => reply,
        }
    })
    .await;
    let slowest = (10_000, Duration::from_millis(300));
    let node = Node::with(PullerConfig { slowest, resumes: 0, ..PullerConfig::default() });
    let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert!(matches!(failure(&error), RegistryFailure::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_manifest_that_says_it_is_too_large_is_not_fetched() {
    let served = Documents::claiming(MODULE, 1 << 40, &Digest::of(MODULE));
    let digest = Digest::of(MODULE);
    let script = Script::start(move |request| served.answer(request)).await;
    let error = Node::new().puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert!(matches!(&error.cause, PullCause::Refused(Refusal::TooLarge { what, .. }) if what == "module"), "{error}");
    assert_eq!(script.fetched(&digest), 0);
}

#[tokio::test]
async fn nonsense_in_place_of_documents_is_refused() {
    let deep = "[".repeat(100_000);
    let index_of_itself = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json",
        "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":3,
        "platform":{"os":"wasip1","architecture":"wasm"}}]}"#;
    for text in ["", "{}", "<html>sign in</html>", deep.as_str(), "\u{0}\u{0}", index_of_itself] {
        let body = text.to_owned();
        let script = Script::start(move |request| match request.target.as_str() {
            "/v2/" => Reply::ok("{}"),
            _ => Reply::ok(body.clone()),
        })
        .await;
        let node = Node::new();
        let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
        assert!(error.to_string().len() < 1000, "{error}");
        assert_eq!(node.store().list().unwrap(), []);
    }
}

#[tokio::test]
async fn an_index_gives_its_wasm_entry_and_the_linux_ones_are_never_fetched() {
    let documents = Documents::of(MODULE);
    let digest = Digest::of(&documents.manifest);
    let entry = |digest: &Digest, os: &str, architecture: &str, size: usize| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "platform": {"os": os, "architecture": architecture}})
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            entry(&Digest::of(b"linux"), "linux", "amd64", 5),
            entry(&digest, "wasip1", "wasm", documents.manifest.len()),
        ],
    });
    let index = index.to_string();
    let target = Digest::of(index.as_bytes());
    let served = documents.clone();
    let script = Script::start(move |request| match request.target.as_str() {
        "/v2/app/manifests/v1" => Reply::ok(index.clone()),
        _ => served.answer(request),
    })
    .await;
    let node = Node::new();
    let image = node.puller.pull(&script.image(), &[], &()).await.unwrap();
    assert_eq!(image.digest, digest);
    // Also by the index' digest, which is what the registry shows for the tag.
    assert_eq!(node.store().get(&script.image().at(target)).unwrap().unwrap().digest, digest);
    assert!(!script.asked().iter().any(|request| request.target.contains(Digest::of(b"linux").as_str())));
}

#[tokio::test]
async fn a_redirect_to_another_host_takes_no_credentials_along() {
    let bytes = module(2000);
    let body = bytes.clone();
    let storage = Script::start(move |_| Reply::ok(body.clone())).await;
    let elsewhere = format!("http://localhost:{}/blob", storage.address().rsplit_once(':').unwrap().1);
    let served = Documents::of(&bytes);
    let script = Script::start(move |request| {
        if request.header("authorization").is_none() {
            return Reply::status(401, "").header("WWW-Authenticate", "Basic realm=\"test\"");
        }
        match served.wants_layer(request) {
            true => Reply::status(307, "").header("Location", elsewhere.clone()),
            false => served.answer(request),
        }
    })
    .await;
    let credential = samara_images::Credential::Basic { username: "user".into(), password: "open sesame".into() };
    Node::new().puller.pull(&script.image(), &[credential], &()).await.unwrap();
    assert_eq!(storage.asked().len(), 1);
    assert_eq!(storage.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let script = Script::start(|request| Reply::status(302, "").header("Location", request.target.clone())).await;
    let error = Node::new().puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert!(error.to_string().contains("redirects too often"), "{error}");
    assert_eq!(script.asked().len(), 6);
}

#[tokio::test]
async fn a_registry_that_never_ends_its_answer_is_cut_off() {
    for endless in ["manifest", "error", "blob"] {
        let served = Documents::of(&module(5000));
        let script = Script::start(move |request| {
            let manifest = request.target.starts_with("/v2/app/manifests/");
            match endless {
                "manifest" if manifest => Reply::ok("").fault(Fault::Endless),
                "error" if manifest => Reply::status(500, "").fault(Fault::Endless),
                "blob" if served.wants_layer(request) => Reply::ok("").fault(Fault::Endless),
                _ => served.answer(request),
            }
        })
        .await;
        let pulled = tokio::time::timeout(Duration::from_secs(30), async {
            Node::new().puller.pull(&script.image(), &[], &()).await
        });
        let error = pulled.await.expect("it ends by itself").unwrap_err();
        assert_ne!(error.to_string(), "", "{endless}");
    }
}

#[tokio::test]
async fn an_image_that_is_refused_leaves_the_one_that_had_its_name() {
    let good = Documents::of(MODULE);
    // What they call their module is here already: as the other's configuration, and with another length.
    let no_wasm = Documents::of(&good.config);
    let longer = Documents::claiming(MODULE, MODULE.len() + 1, &Digest::of(MODULE));
    let refused = |error: &PullError| error.cause.to_string();
    for (bad, expected) in [(no_wasm, "JSON"), (longer, "has 8 bytes, and its manifest says 9")] {
        let moved = Arc::new(AtomicBool::new(false));
        let (good, now) = (good.clone(), Arc::clone(&moved));
        let script =
            Script::start(move |request| if now.load(Ordering::Relaxed) { &bad } else { &good }.answer(request));
        let script = script.await;
        let node = Node::new();
        let image = node.puller.pull(&script.image(), &[], &()).await.unwrap();
        moved.store(true, Ordering::Relaxed);
        let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
        assert!(refused(&error).contains(expected), "{error}");
        assert_eq!(node.store().get(&script.image()).unwrap(), Some(image));
    }
}

#[tokio::test]
async fn what_signs_an_address_is_in_no_message() {
    let served = Documents::of(MODULE);
    let storage = "http://127.0.0.1:1/bucket/blob?X-Amz-Signature=secret";
    let script = Script::start(move |request| match served.wants_layer(request) {
        true => Reply::status(307, "").header("Location", storage),
        false => served.answer(request),
    });
    let script = script.await;
    let node = Node::with(PullerConfig { resumes: 0, ..PullerConfig::default() });
    let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err().to_string();
    assert!(error.contains("http://127.0.0.1:1/bucket/blob") && !error.contains("secret"), "{error}");
}
