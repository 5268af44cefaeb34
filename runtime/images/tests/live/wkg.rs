//! Components that wkg pushes: it writes what they import into the configuration.

use std::sync::Arc;

use samara_images::{Admit, Content, Digest, PullCause, PullerConfig, Reference, Refusal, Retry};

use crate::registry::Registry;
use crate::{Node, run};

/// Has streams alone.
#[derive(Debug)]
struct Streams;

impl Admit for Streams {
    fn imports(&self, imports: &[String]) -> Result<(), String> {
        match imports.iter().find(|import| !import.starts_with("wasi:cli/std")) {
            Some(import) => Err(format!("it imports {import}, which this node does not have")),
            None => Ok(()),
        }
    }
}

fn choosy() -> Node {
    Node::with(PullerConfig { admit: Some(Arc::new(Streams)), ..PullerConfig::default() })
}

/// Pushes a component that imports these, and gives its bytes.
fn push(name: &Reference, imports: &[&str]) -> Vec<u8> {
    let imports: String =
        imports.iter().map(|import| format!("(import \"{import}\" (instance (export \"f\" (func))))")).collect();
    let component = wat::parse_str(format!("(component {imports})")).unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
    std::fs::write(file.path(), &component).unwrap();
    let (file, name) = (file.path().display().to_string(), name.to_string());
    run("wkg/bin/wkg", &["oci", "push", "--insecure", name.split('/').next().unwrap(), &name, &file]);
    component
}

#[tokio::test]
async fn what_wkg_pushes_is_pulled() {
    let registry = Registry::start();
    let name = registry.image("good:v1");
    let component = push(&name, &["wasi:cli/stdout@0.2.0"]);
    let image = choosy().puller.pull(&name, &[], &()).await.unwrap();
    let Content::Module { digest, .. } = &image.content else { panic!("{image:?}") };
    assert_eq!(*digest, Digest::of(&component));
}

#[tokio::test]
async fn what_wkg_says_of_imports_is_judged_before_the_component_comes() {
    let registry = Registry::start();
    let name = registry.image("asks:v1");
    let component = push(&name, &["wasi:cli/stdout@0.2.0", "acme:db/sql@1.0.0"]);
    std::fs::remove_file(registry.blob_file(&Digest::of(&component))).unwrap();
    let node = choosy();
    let error = node.puller.pull(&name, &[], &()).await.unwrap_err();
    assert!(matches!(&error.cause, PullCause::Refused(Refusal::Imports(_))), "{error}");
    assert!(error.to_string().ends_with(": it imports acme:db/sql@1.0.0, which this node does not have"), "{error}");
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(node.count(), (0, 0, 0));
    // Whoever asks for the component sees that it is not there.
    let error = Node::new().puller.pull(&name, &[], &()).await.unwrap_err();
    assert!(!matches!(&error.cause, PullCause::Refused(_)), "{error}");
}
