//! Every form in which people keep wasm in registries, made here in its tools' types and layout, in two real registries. What tools
//! themselves write is in `interop`, in `layouts`, and in the live suite.

use std::io::Write as _;

use samara_images::{Content, Digest, Image, ImageConfig, PullCause, PullError, Reference, Refusal, WasmKind};
use serde_json::{Value, json};

use crate::raw::Raw;
use crate::registry::{Crane, Registry};
use crate::{COMPONENT, MODULE, Node, run};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const CONTENT_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// The root of `FROM scratch; COPY app.wasm /app.wasm`.
fn root() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(MODULE.len() as u64);
    archive.append_data(&mut header, "app.wasm", MODULE).unwrap();
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn image_config(os: &str, architecture: &str, root: &[u8]) -> Value {
    json!({
        "os": os, "architecture": architecture, "created": "2026-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/app.wasm"], "Env": null, "Cmd": null},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(root)]},
        "history": [{"created_by": "COPY app.wasm /app.wasm # buildkit"}],
    })
}

async fn pull(reference: &Reference) -> Result<(Node, Image), PullError> {
    let node = Node::new();
    let image = node.puller.pull(reference, &[], &()).await?;
    Ok((node, image))
}

/// Pulls and expects the wasm under `/app.wasm`.
async fn is_root(reference: &Reference) {
    let (node, image) = pull(reference).await.unwrap();
    assert_eq!(image.config.entrypoint, ["/app.wasm"]);
    let mut bytes = Vec::new();
    let mut file = node.store().open_in_image(&image, "/app.wasm").unwrap().unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert_eq!(bytes, MODULE);
}

/// Pulls and expects exactly these bytes.
async fn is_module(reference: &Reference, wasm: &[u8]) -> Image {
    let (_node, image) = pull(reference).await.unwrap();
    let Content::Module { path, kind, .. } = &image.content else { panic!("{image:?}") };
    assert_eq!(std::fs::read(path).unwrap(), wasm);
    assert_eq!(*kind == WasmKind::Component, wasm == COMPONENT);
    image
}

async fn roots(registry: &Raw) {
    let root = root();
    let platforms = [
        ("wasi", "wasm"),
        ("wasi", "wasm32"),
        ("wasip1", "wasm"),
        ("wasip2", "wasm"),
        ("linux", "wasm"),
        ("linux", "wasm32"),
    ];
    for (os, architecture) in platforms {
        let config = image_config(os, architecture, &root);
        let name =
            registry.image(OCI_MANIFEST, (OCI_CONFIG, &config), &[(&format!("{OCI_TAR}+gzip"), &gzip(&root))]).await;
        is_root(&name).await;
    }
    let config = image_config("wasip1", "wasm", &root);
    for (layer, bytes) in [
        (OCI_TAR.to_owned(), root.clone()),
        (format!("{OCI_TAR}+zstd"), zstd(&root)),
        // What a tool says of a layer and what it is may differ: docker looks at the bytes, and so do we.
        (OCI_TAR.to_owned(), gzip(&root)),
        (format!("{OCI_TAR}+gzip"), zstd(&root)),
    ] {
        is_root(&registry.image(OCI_MANIFEST, (OCI_CONFIG, &config), &[(&layer, &bytes)]).await).await;
    }
    is_root(&registry.image(DOCKER_MANIFEST, (DOCKER_CONFIG, &config), &[(DOCKER_TAR, &gzip(&root))]).await).await;
}

async fn artifacts(registry: &Raw) {
    let empty = json!({});
    let cncf = |wasm: &[u8], os: &str| json!({"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": os, "layerDigests": [Digest::of(wasm)]});
    let spin = json!({"spin_manifest_version": 2, "application": {"name": "hello"}, "trigger": {}});
    let component_config = image_config("wasip1", "wasm", COMPONENT);
    for (config_type, config, layer, wasm) in [
        (WASM_CONFIG, cncf(MODULE, "wasip1"), "application/wasm", MODULE),
        (WASM_CONFIG, cncf(COMPONENT, "wasip2"), "application/wasm", COMPONENT),
        // wasm-to-oci and Krustlet
        ("application/vnd.wasm.config.v1+json", empty.clone(), CONTENT_LAYER, MODULE),
        // wasmCloud
        (
            "application/vnd.wasmcloud.actor.archive.config",
            empty.clone(),
            "application/vnd.module.wasm.content.layer.v1+wasm",
            COMPONENT,
        ),
        ("application/vnd.fermyon.spin.application.v1+config", spin, CONTENT_LAYER, COMPONENT),
        // runwasi's oci-tar-builder
        (
            OCI_CONFIG,
            component_config.clone(),
            "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
            COMPONENT,
        ),
        (OCI_CONFIG, component_config, "application/vnd.bytecodealliance.wasm.module.layer.v0+wasm", MODULE),
        // oras without a configuration
        ("application/vnd.oci.empty.v1+json", empty, "application/wasm", MODULE),
    ] {
        let image =
            is_module(&registry.image(OCI_MANIFEST, (config_type, &config), &[(layer, wasm)]).await, wasm).await;
        let entrypoint: &[&str] = if config_type == OCI_CONFIG { &["/app.wasm"] } else { &[] };
        assert_eq!(image.config.entrypoint, entrypoint, "{config_type}");
    }
}

async fn indexes(registry: &Raw) {
    let root = root();
    let layer = gzip(&root);
    for (index_type, manifest_type, config_type, layer_type) in [
        (OCI_INDEX, OCI_MANIFEST, OCI_CONFIG, format!("{OCI_TAR}+gzip")),
        (DOCKER_LIST, DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_TAR.to_owned()),
    ] {
        let mut entries = Vec::new();
        for (os, architecture) in [("linux", "amd64"), ("linux", "arm64"), ("wasip1", "wasm")] {
            let config = image_config(os, architecture, &root);
            let entry = registry.manifest(manifest_type, (config_type, &config), &[(&layer_type, &layer)]).await;
            entries.push(entry.on(os, architecture));
        }
        // Buildkit's attestation beside them.
        let attested =
            registry.manifest(OCI_MANIFEST, (OCI_CONFIG, &json!({})), &[("application/vnd.in-toto+json", b"{}")]).await;
        entries.push(attested.on("unknown", "unknown"));
        is_root(&registry.index(index_type, &entries).await).await;
        let error = pull(&registry.index(index_type, &entries[..2]).await).await.unwrap_err();
        let offered = "linux/amd64, linux/arm64".to_owned();
        assert!(
            matches!(error.cause, PullCause::Refused(Refusal::NoWasmPlatform { offered: found }) if found == offered)
        );
    }
}

async fn several_layers_are_refused_before_any_comes(registry: &Raw) {
    let config = json!({"architecture": "wasm", "os": "wasip1", "layerDigests": []});
    let layers: [(&str, &[u8]); 2] = [("application/wasm", MODULE), ("application/wasm", COMPONENT)];
    let name = registry.image(OCI_MANIFEST, (WASM_CONFIG, &config), &layers).await;
    let node = Node::new();
    let error = node.puller.pull(&name, &[], &()).await.unwrap_err();
    assert!(error.to_string().ends_with("it has 2 WebAssembly layers, and the artifact format allows one"), "{error}");
    assert_eq!(node.count(), (0, 0, 0));
}

async fn everything(registry: &Raw) {
    roots(registry).await;
    artifacts(registry).await;
    indexes(registry).await;
    several_layers_are_refused_before_any_comes(registry).await;
}

#[tokio::test]
async fn every_form_is_taken_from_distribution() {
    let registry = Registry::start();
    everything(&Raw::new(registry.address())).await;
}

#[tokio::test]
async fn every_form_is_taken_from_go_containerregistry() {
    let registry = Crane::start();
    everything(&Raw::new(registry.address())).await;
}

#[tokio::test]
async fn what_oras_pushes_is_pulled() {
    let registry = Registry::start();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("app.wasm"), COMPONENT).unwrap();
    let config = json!({"architecture": "wasm", "os": "wasip2", "layerDigests": [Digest::of(COMPONENT)],
        "component": {"imports": ["wasi:cli/environment@0.2.6"], "exports": ["wasi:cli/run@0.2.6"]}});
    std::fs::write(path("config.json"), config.to_string()).unwrap();
    let layer = format!("{}:application/wasm", path("app.wasm"));
    let typed = registry.image("typed:v1").to_string();
    let config = format!("{}:{WASM_CONFIG}", path("config.json"));
    run("oras", &["push", "--plain-http", "--disable-path-validation", &typed, "--config", &config, &layer]);
    is_module(&registry.image("typed:v1"), COMPONENT).await;
    // With a type and no configuration.
    let bare = registry.image("bare:v1").to_string();
    run(
        "oras",
        &[
            "push",
            "--plain-http",
            "--disable-path-validation",
            &bare,
            "--artifact-type",
            "application/vnd.acme.app",
            &layer,
        ],
    );
    is_module(&registry.image("bare:v1"), COMPONENT).await;
}

#[tokio::test]
async fn what_crane_builds_is_pulled() {
    let registry = Registry::start();
    let directory = tempfile::tempdir().unwrap();
    let layer = directory.path().join("layer.tar").display().to_string();
    std::fs::write(&layer, root()).unwrap();
    let name = registry.image("crane:v1");
    let text = name.to_string();
    run("crane", &["append", "--insecure", "--oci-empty-base", "-f", &layer, "-t", &text]);
    run(
        "crane",
        &["mutate", "--insecure", "--set-platform", "wasip1/wasm", "--entrypoint", "/app.wasm", "-t", &text, &text],
    );
    is_root(&name).await;
    let (_, image) = pull(&name).await.unwrap();
    assert_eq!(image.config, ImageConfig { entrypoint: vec!["/app.wasm".into()], ..image.config.clone() });
}
