//! Which file is the program.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::Serialize;

use super::OutlineError;
use samara_shim_client::annotations;

/// The program of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Wasm {
    /// A host file. With a digest, the code cache is asked first and the file only if it has nothing.
    Module { path: PathBuf, digest: Option<String> },
    /// A file in the root.
    InRoot { candidates: Candidates, digest: Option<String> },
    /// Kubernetes' sandbox container, which only waits (under containerd).
    Pause,
}

/// Paths in the root, the first that exists is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Candidates {
    /// As the user wrote it, for messages.
    pub(crate) name: String,
    pub(crate) paths: Vec<PathBuf>,
}

/// containerd's annotation that tells the sandbox from its containers.
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// containerd's default, and what Kubernetes images expect when they set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's first process.
pub(super) fn first(spec: &Spec, process: &Process) -> Result<Wasm, OutlineError> {
    let annotation = |key| spec.annotations().as_ref().and_then(|all| all.get(key));
    if annotation(CONTAINER_TYPE).is_some_and(|typ| typ == "sandbox") {
        return Ok(Wasm::Pause);
    }
    let digest = annotation(annotations::MODULE_DIGEST).map(digest).transpose()?;
    let Some(path) = annotation(annotations::MODULE) else {
        let candidates = candidates(process)?;
        return Ok(Wasm::InRoot { candidates, digest });
    };
    if !Path::new(path).is_absolute() {
        return Err(OutlineError::value(annotations::MODULE, path, "is not an absolute path"));
    }
    let path = path.into();
    Ok(Wasm::Module { path, digest })
}

/// An exec.
pub(super) fn further(process: &Process) -> Result<Wasm, OutlineError> {
    let candidates = candidates(process)?;
    let digest = None;
    Ok(Wasm::InRoot { candidates, digest })
}

fn digest(text: &String) -> Result<String, OutlineError> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() == 64 && hex.bytes().all(lower_hex) {
        Ok(text.clone())
    } else {
        Err(OutlineError::value(annotations::MODULE_DIGEST, text, "is not a sha256 digest"))
    }
}

/// As `execvp` does: a name with a slash is a path, another is looked for in `PATH`.
fn candidates(process: &Process) -> Result<Candidates, OutlineError> {
    let args = process.args().as_deref().unwrap_or_default();
    let name = args.first().filter(|name| !name.is_empty());
    let name = name.ok_or(OutlineError::Missing("process.args"))?;
    if name.contains('\0') {
        return Err(OutlineError::value("process.args[0]", name, "holds a NUL"));
    }
    let cwd = process.cwd();
    let paths = if name.contains('/') {
        vec![cwd.join(name)]
    } else {
        let env = process.env().iter().flatten();
        let path = env.filter_map(|pair| pair.strip_prefix("PATH=")).next_back();
        let path = path.unwrap_or(DEFAULT_PATH);
        path.split(':').map(|dir| cwd.join(dir).join(name)).collect()
    };
    let name = name.clone();
    Ok(Candidates { name, paths })
}
