//! Images that buildah makes: layers with whiteouts, in a registry and in files.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use samara_images::{Content, Image, Import, Reference};

use crate::registry::Registry;
use crate::{MODULE, Node};

/// Makes the image of `tests/tools/buildah/image.sh` and copies it to these places.
fn build(format: &str, destinations: &[String]) {
    let work = tempfile::tempdir().unwrap();
    let wasm = work.path().join("app.wasm");
    std::fs::write(&wasm, MODULE).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tools/buildah/image.sh");
    let mut command = Command::new(script);
    command.arg(work.path()).arg(wasm).arg(format).args(destinations);
    let output = command.env("HOME", work.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether it is what the script says it is.
fn is_right(node: &Node, image: &Image) {
    let Content::Rootfs { layers } = &image.content else { panic!("{image:?}") };
    assert_eq!(layers.len(), 2);
    assert_eq!(image.config.entrypoint, ["/app"]);
    assert_eq!(image.config.cmd, ["ls", "/site"]);
    assert_eq!(image.config.working_dir, "/site");
    assert!(image.config.env.contains(&"A=b".to_owned()), "{:?}", image.config.env);
    let read = |path: &str| {
        let mut bytes = Vec::new();
        let file = node.store().open_in_image(image, path).unwrap();
        file.map(|mut file| file.read_to_end(&mut bytes).map(|_| bytes).unwrap())
    };
    for (path, content) in [
        ("/app", Some(MODULE)),
        ("/site/kept", Some(&b"kept\n"[..])),
        ("/site/replaced", Some(b"newer\n")),
        ("/site/shape", Some(b"shape\n")),
        ("/site/shape/file", None),
        ("/site/removed", None),
        ("/site/dir/file", None),
    ] {
        assert_eq!(read(path).as_deref(), content, "{path}");
    }
}

#[tokio::test]
async fn what_buildah_builds_is_pulled_in_both_of_its_formats() {
    let registry = Registry::start();
    for format in ["oci", "docker"] {
        let name = registry.image(&format!("{format}:v1"));
        build(format, &[format!("docker://{name}")]);
        let node = Node::new();
        let image = node.puller.pull(&name, &[], &()).await.unwrap();
        is_right(&node, &image);
    }
}

#[tokio::test]
async fn the_layouts_that_buildah_writes_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (layout, archive, dockers) = (path("layout"), path("archive.tar"), path("docker.tar"));
    let places = [
        format!("oci:{}:v1", layout.display()),
        format!("oci-archive:{}:v1", archive.display()),
        // As `podman save` has it: layers under their digests, and links to them.
        format!("docker-archive:{}:localhost/given:v1", dockers.display()),
    ];
    build("oci", &places);
    for from in [layout, archive, dockers] {
        let node = Node::new();
        let name = Reference::parse("localhost/given:v1").unwrap();
        let images = node.puller.import(Import::open(&from).unwrap(), Some(&name), &()).await.unwrap();
        let [(image, names)] = images.as_slice() else { panic!("{images:?}") };
        // Docker's form has also the name under which buildah itself keeps it.
        assert!(names.contains(&name), "{names:?}");
        is_right(&node, image);
    }
}
