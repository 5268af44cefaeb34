//! A component that asks for what the node has not is refused before it comes.

use std::sync::Arc;

use samara_images::{Admit, Digest, PullCause, PullerConfig, Refusal, Retry};
use serde_json::json;

use crate::script::{Documents, Script};
use crate::{COMPONENT, Node};

/// Has clocks alone.
#[derive(Debug)]
struct Clocks;

impl Admit for Clocks {
    fn imports(&self, imports: &[String]) -> Result<(), String> {
        match imports.iter().find(|import| !import.starts_with("wasi:clocks/")) {
            Some(import) => Err(format!("it imports {import}, which this node does not have")),
            None => Ok(()),
        }
    }
}

/// A component whose configuration says what it imports.
fn importing(imports: &[&str]) -> Documents {
    let honest = Documents::of(COMPONENT);
    let config = json!({
        "architecture": "wasm", "os": "wasip2", "layerDigests": [Digest::of(COMPONENT)],
        "component": {"imports": imports, "exports": []},
    });
    let config = config.to_string().into_bytes();
    let mut manifest: serde_json::Value = serde_json::from_slice(&honest.manifest).unwrap();
    manifest["config"]["digest"] = json!(Digest::of(&config));
    manifest["config"]["size"] = json!(config.len());
    Documents { manifest: manifest.to_string().into_bytes(), config, layer: honest.layer }
}

#[tokio::test]
async fn an_import_that_cannot_be_given_is_named_and_the_layer_is_never_asked_for() {
    let documents = importing(&["wasi:clocks/wall-clock@0.2.0", "acme:db/sql@1.0.0"]);
    let script = Script::start(move |request| documents.answer(request)).await;
    let node = Node::with(PullerConfig { admit: Some(Arc::new(Clocks)), ..PullerConfig::default() });
    let error = node.puller.pull(&script.image(), &[], &()).await.unwrap_err();
    assert!(matches!(&error.cause, PullCause::Refused(Refusal::Imports(_))), "{error}");
    assert!(error.to_string().ends_with(": it imports acme:db/sql@1.0.0, which this node does not have"), "{error}");
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(script.fetched(&Digest::of(COMPONENT)), 0);
    assert_eq!(node.count(), (0, 0, 0));
    // A puller that is not told what the node has takes it.
    Node::new().puller.pull(&script.image(), &[], &()).await.unwrap();
    assert_eq!(script.fetched(&Digest::of(COMPONENT)), 1);
}

#[tokio::test]
async fn what_can_be_given_and_what_says_nothing_come() {
    for documents in [importing(&["wasi:clocks/wall-clock@0.2.0"]), importing(&[]), Documents::of(COMPONENT)] {
        let script = Script::start(move |request| documents.answer(request)).await;
        let node = Node::with(PullerConfig { admit: Some(Arc::new(Clocks)), ..PullerConfig::default() });
        node.puller.pull(&script.image(), &[], &()).await.unwrap();
    }
}
