//! Images as files: out of one store and into another, to and from other tools, and what is no layout.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use samara_images::{
    Artifact, Content, Credential, Digest, Image, Import, LayoutError, PullerConfig, Pusher, Reference, RootfsBuilder,
};
use serde_json::{Value, json};

use crate::registry::Registry;
use crate::{MODULE, Node, module, run};

fn named(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

/// A module and a root file system, pulled.
async fn filled(registry: &Registry) -> (Node, [Reference; 2]) {
    crate::install_tls();
    let pusher = Pusher::new(registry.config());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), module(300_000)).unwrap();
    let root = RootfsBuilder::new().bytes("/app", MODULE, 0o755).unwrap().bytes("/etc/x", "y", 0o644).unwrap();
    let names = [registry.image("module:v1"), registry.image("root:v1")];
    let node = Node::new();
    for (name, artifact) in names.iter().zip([Artifact::wasm(file.path()).unwrap(), root.build().unwrap()]) {
        pusher.push(name, &artifact, &Credential::Anonymous, &()).await.unwrap();
        node.puller.pull(name, &[], &()).await.unwrap();
    }
    (node, names)
}

async fn imported(node: &Node, from: Import) -> Vec<(Image, Vec<Reference>)> {
    node.puller.import(from, None, &()).await.unwrap()
}

fn archive(bytes: Vec<u8>) -> Import {
    Import::Archive(Box::new(std::io::Cursor::new(bytes)))
}

#[tokio::test]
async fn images_go_from_store_to_store_as_a_file() {
    let registry = Registry::start();
    let (node, names) = filled(&registry).await;
    let mut plain = Vec::new();
    node.store().export_archive(&names, &mut plain).unwrap();
    let mut again = Vec::new();
    node.store().export_archive(&names, &mut again).unwrap();
    assert_eq!(Digest::of(&plain), Digest::of(&again), "the same bytes each time");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&plain).unwrap();
    let packed = packed.finish().unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [plain, packed, zstd] {
        let other = Node::new();
        let images = imported(&other, archive(bytes)).await;
        assert_eq!(images.len(), 2);
        for name in &names {
            let (ours, theirs) = (node.store().get(name).unwrap().unwrap(), other.store().get(name).unwrap().unwrap());
            assert_eq!((&ours.digest, &ours.config, ours.size), (&theirs.digest, &theirs.config, theirs.size));
        }
        let root = other.store().get(&names[1]).unwrap().unwrap();
        assert!(other.store().open_in_image(&root, "/etc/x").unwrap().is_some());
        assert_eq!(other.count().2, 0, "nothing is left half done");
    }
}

#[tokio::test]
async fn a_directory_takes_and_gives_images_too() {
    let registry = Registry::start();
    let (node, names) = filled(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    node.store().export_directory(&names, directory.path()).unwrap();
    node.store().export_directory(&names, directory.path()).unwrap();
    let other = Node::new();
    assert_eq!(imported(&other, Import::open(directory.path()).unwrap()).await.len(), 2);
    // What is there is not taken twice, and one more name costs nothing.
    assert_eq!(imported(&other, Import::open(directory.path()).unwrap()).await.len(), 2);
    assert!(other.store().tag(&names[0], &named("localhost/other:v2")).unwrap());
    assert!(!other.store().tag(&named("localhost/none"), &named("localhost/other:v3")).unwrap());
    assert_eq!(other.store().list().unwrap().len(), 2);
    // From the store to a registry again.
    let second = Registry::start();
    let artifact = Artifact::stored(other.store(), &named("localhost/other:v2")).unwrap().unwrap();
    let pushed = second.image("other:v2");
    Pusher::new(second.config()).push(&pushed, &artifact, &Credential::Anonymous, &()).await.unwrap();
    let image = Node::new().puller.pull(&pushed, &[], &()).await.unwrap();
    assert_eq!(image.digest, node.store().get(&names[0]).unwrap().unwrap().digest);
}

#[tokio::test]
async fn what_docker_saves_in_its_older_form_is_read() {
    let registry = Registry::start();
    let (node, [_, root]) = filled(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("saved.tar").display().to_string();
    // What crane calls a tarball: a manifest.json, and layers that are packed.
    run("crane", &["pull", "--insecure", "--format=tarball", root.to_string().as_str(), &saved]);
    let other = Node::new();
    let images = imported(&other, Import::open(Path::new(&saved)).unwrap()).await;
    let (ours, theirs) = (node.store().get(&root).unwrap().unwrap(), other.store().get(&root).unwrap().unwrap());
    assert_eq!((images.len(), &images[0].1, &ours.config), (1, &vec![root.clone()], &theirs.config));
    assert!(other.store().open_in_image(&theirs, "/etc/x").unwrap().is_some());
    assert_eq!(other.count().2, 0, "nothing is left half done");
    // It can be pushed as any other.
    let (pushed, artifact) = (registry.image("again:v1"), Artifact::stored(other.store(), &root).unwrap().unwrap());
    Pusher::new(registry.config()).push(&pushed, &artifact, &Credential::Anonymous, &()).await.unwrap();
    assert_eq!(Node::new().puller.pull(&pushed, &[], &()).await.unwrap().digest, theirs.digest);
}

/// As docker wrote it: plain layers, those that images share as links, and the list at the end.
#[tokio::test]
async fn images_that_share_a_layer_by_a_link_have_it_and_names_that_lead_nowhere_are_told() {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(MODULE.len() as u64);
    layer.append_data(&mut header, "app", MODULE).unwrap();
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "os": "wasip1", "architecture": "wasm", "config": {"Entrypoint": ["/app"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
    });
    let saved = |list: Value| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        add("a/layer.tar", &layer);
        add("a.json", config.to_string().as_bytes());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        archive.append_link(&mut link, "b/layer.tar", "../a/layer.tar").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(list.to_string().len() as u64);
        archive.append_data(&mut header, "manifest.json", list.to_string().as_bytes()).unwrap();
        self::archive(archive.into_inner().unwrap())
    };
    let entry = |layer: &str, tags: Value| json!({"Config": "a.json", "RepoTags": tags, "Layers": [layer]});
    let node = Node::new();
    let both = json!([entry("a/layer.tar", json!(["r.test/a:1", "a:2"])), entry("b/layer.tar", json!(["r.test/b:1"]))]);
    let images = imported(&node, saved(both)).await;
    let names = ["r.test/a:1", "docker.io/library/a:2", "r.test/b:1"].map(named).to_vec();
    assert_eq!(images.into_iter().flat_map(|(_, names)| names).collect::<Vec<_>>(), names);
    assert!(node.store().get(&names[2]).unwrap().is_some());
    let nameless = json!([entry("a/layer.tar", Value::Null)]);
    let given = named("localhost/given:now");
    let images = node.puller.import(saved(nameless.clone()), Some(&given), &()).await.unwrap();
    assert_eq!(images[0].1, [given]);
    for (list, says) in [
        (nameless, "no name of its own"),
        (json!([entry("c/layer.tar", json!(["a:1"]))]), "c/layer.tar"),
        (json!([entry("../../etc/passwd", json!(["a:1"]))]), "etc/passwd"),
        (json!([entry("a/layer.tar", json!(["No:Such:Name"]))]), "No:Such:Name"),
        (json!([]), "there is no image in it"),
        (json!({"Config": 7}), "manifest.json"),
    ] {
        let error = Node::new().puller.import(saved(list), None, &()).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn other_tools_layouts_are_read_and_ours_are_read_by_them() {
    let registry = Registry::start();
    let (node, names) = filled(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // oras writes a layout with a bare tag; crane one without any name.
    run(
        "oras",
        &[
            "copy",
            "--from-plain-http",
            names[0].to_string().as_str(),
            "--to-oci-layout",
            &format!("{}:v7", path("oras")),
        ],
    );
    run("crane", &["pull", "--insecure", "--format=oci", names[1].to_string().as_str(), &path("crane")]);
    let expected = |index: usize| node.store().get(&names[index]).unwrap().unwrap().digest;
    for (index, tool, name) in [(0, "oras", "localhost/given:v7"), (1, "crane", "localhost/given:v1")] {
        let other = Node::new();
        let from = || Import::open(Path::new(&path(tool))).unwrap();
        let images = other.puller.import(from(), Some(&named("localhost/given:v1")), &()).await.unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].0.digest.clone(), images[0].1.clone()), (expected(index), vec![named(name)]));
        let error = other.puller.import(from(), None, &()).await.unwrap_err();
        assert!(error.to_string().contains("has no name of its own"), "{error}");
    }
    node.store().export_directory(&names[..1], Path::new(&path("ours"))).unwrap();
    let target = registry.image("copied:v1").to_string();
    run("oras", &["copy", "--from-oci-layout", &format!("{}:v1", path("ours")), "--to-plain-http", &target]);
    let copied = Node::new().puller.pull(&registry.image("copied:v1"), &[], &()).await.unwrap();
    assert_eq!(copied.digest, expected(0));
    node.store().export_directory(&names[1..], Path::new(&path("root"))).unwrap();
    run("crane", &["push", "--insecure", &path("root"), &registry.image("pushed:v1").to_string()]);
    let pushed = Node::new().puller.pull(&registry.image("pushed:v1"), &[], &()).await.unwrap();
    assert_eq!(pushed.digest, expected(1));
}

/// A layout of one image whose parts may be anything.
fn layout(index: &Value, blobs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let index = index.to_string();
    for (name, content) in [("index.json", index.as_bytes())].iter().chain(blobs) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        // Past the checks which the builder has for names.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn index(digest: &Digest, name: &str) -> Value {
    json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 10,
        "annotations": {"io.containerd.image.name": name},
    }]})
}

#[tokio::test]
async fn what_is_no_layout_is_refused_and_leaves_nothing() {
    let manifest = Digest::of(b"manifest");
    let blob = format!("blobs/sha256/{}", manifest.hex());
    let good = index(&manifest, "r.test/a:1");
    let bomb = zstd::encode_all(layout(&good, &[(&blob, &vec![0; 64 << 20])]).as_slice(), 1).unwrap();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "neither an index.json nor a manifest.json"),
        (b"PK\x03\x04 a zip archive of sorts".repeat(100), "archive"),
        (layout(&good, &[]), "cannot read"),
        (layout(&good, &[(&blob, b"not the manifest")]), "its digest is"),
        (layout(&index(&manifest, "Not A Name"), &[]), "is called `Not A Name`"),
        (layout(&json!({"schemaVersion": 2, "manifests": []}), &[]), "there is no image in it"),
        (
            layout(&json!([]), &[("../../escaped", b"x"), ("/escaped", b"x"), ("blobs/sha256/../../escaped", b"x")]),
            "index.json",
        ),
        (bomb, "archive"),
    ];
    for (bytes, named) in cases {
        let node = Node::with(PullerConfig { largest_archive: 10 << 20, ..PullerConfig::default() });
        let error = node.puller.import(archive(bytes), None, &()).await.unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert!(error.len() < 500, "{error}");
        assert_eq!(node.count(), (0, 0, 0));
        assert!(!node.store().root().join("tmp").join("escaped").exists());
    }
    assert!(matches!(Import::open(Path::new("/no/such/file")), Err(LayoutError::Read { .. })));
}

#[tokio::test]
async fn what_was_not_kept_cannot_be_exported() {
    let registry = Registry::start();
    let (_, names) = filled(&registry).await;
    let node = Node::with(PullerConfig { keep_layers: false, ..PullerConfig::default() });
    node.puller.pull(&names[1], &[], &()).await.unwrap();
    let error = node.store().export_archive(&names[1..], Vec::new()).unwrap_err();
    assert!(matches!(error, LayoutError::NotKept(..)), "{error}");
    assert!(Artifact::stored(node.store(), &names[1]).unwrap().is_none());
    let error = node.store().export_archive(&names[..1], Vec::new()).unwrap_err();
    assert!(matches!(error, LayoutError::NoImage(_)), "{error}");
    let Content::Rootfs { .. } = node.store().get(&names[1]).unwrap().unwrap().content else { panic!() };
}
