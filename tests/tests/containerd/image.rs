//! The image that all containers run: small commands in one root, built and saved by `samara` itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use samara_tests::cluster::workspace;
use samara_tests::node::samara;

use crate::daemon::ran;

pub(crate) const IMAGE: &str = "registry.test/toolbox:v1";

/// An archive of the image, below `home`.
pub(crate) fn make(home: &Path) -> PathBuf {
    let (root, archive) = (home.join("image"), home.join("image.tar"));
    fs::create_dir_all(root.join("bin")).expect("directory");
    let built = workspace().join("samples/target/wasm32-wasip1/release");
    for (sample, name) in [("toolbox", "toolbox"), ("exit-code", "exit-code"), ("hog-memory", "hog")] {
        let wasm = built.join(sample).with_extension("wasm");
        fs::copy(&wasm, root.join("bin").join(name)).expect("`make samples` builds the guests");
    }
    for name in ["cat", "echo", "ls", "sleep", "tee"] {
        symlink("toolbox", root.join("bin").join(name)).expect("link");
    }
    fs::write(root.join("greeting"), "from the image\n").expect("file");
    let store = home.join("store");
    let samara = |args: &[&str], path: &Path| {
        let mut command = Command::new(samara());
        command.arg(args[0]).arg("--root-dir").arg(&store).args(&args[1..]).arg(path).stdin(Stdio::null());
        ran(command).succeeded();
    };
    samara(&["build", "--tag", IMAGE, "--entrypoint", "/bin/sleep", "--cmd", "infinity", "--env", "PATH=/bin"], &root);
    samara(&["save", IMAGE, "--output"], &archive);
    archive
}
