//! The code of an image's first process: found in the image, compiled once.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Container;
use samara_core::oci::Module;
use samara_images::{Content, Digest, Image, ImageStore, StoreError};

use crate::{Compile, CompileError};

/// Where a command without a slash is looked for when the image's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Compiles what images hold.
pub(super) struct Code {
    store: ImageStore,
    compile: Arc<dyn Compile>,
    /// Digests of wasm whose code is in the cache.
    compiled: Mutex<HashSet<String>>,
    /// Digest of the wasm in an image's root, by manifest and command.
    found: Mutex<HashMap<(Digest, String), String>>,
}

/// Why an image cannot be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodeError {
    #[error("image {image} cannot be run: {source}")]
    Compile { image: String, source: CompileError },
    #[error("image {image} names no command, and neither does the container")]
    NoCommand { image: String },
    #[error("image {image} has no file {command:?}")]
    NoFile { image: String, command: String },
    #[error("image {image}: {source}")]
    Store { image: String, source: StoreError },
    #[error("image {image}: read {path}: {source}")]
    Read { image: String, path: String, source: io::Error },
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Code {
    pub(super) fn new(store: ImageStore, compile: Arc<dyn Compile>) -> Self {
        Self { store, compile, compiled: Mutex::default(), found: Mutex::default() }
    }

    /// The wasm that the container begins with; its code is in the cache when this returns.
    pub(super) async fn of(&self, image: &Image, container: &Container) -> Result<Module, CodeError> {
        match &image.content {
            Content::Module { path, digest, .. } => {
                let module = Module { path: Some(path.clone()), digest: digest.to_string() };
                let open = || {
                    File::open(path).map_err(|source| CodeError::Read {
                        image: image.reference.to_string(),
                        path: path.display().to_string(),
                        source,
                    })
                };
                self.ensure(image, &module.digest, open).await?;
                Ok(module)
            }
            Content::Rootfs { .. } => {
                let command = command(image, container)?;
                let key = (image.digest.clone(), command.clone());
                let known = lock(&self.found).get(&key).cloned();
                let digest = match known {
                    Some(digest) => digest,
                    None => {
                        let digest = self.digest(image, &command).await?;
                        lock(&self.found).insert(key, digest.clone());
                        digest
                    }
                };
                self.ensure(image, &digest, || self.open(image, &command)).await?;
                Ok(Module { path: None, digest })
            }
        }
    }

    /// Removes code that no image needs any more.
    pub(super) fn forget(&self, digest: &str) -> Result<(), CompileError> {
        lock(&self.compiled).remove(digest);
        lock(&self.found).retain(|_, found| found != digest);
        self.compile.forget(digest)
    }

    async fn ensure(
        &self,
        image: &Image,
        digest: &str,
        open: impl FnOnce() -> Result<File, CodeError>,
    ) -> Result<(), CodeError> {
        if lock(&self.compiled).contains(digest) {
            return Ok(());
        }
        let compiled = self.compile.ensure(open()?, digest).await;
        compiled.map_err(|source| CodeError::Compile { image: image.reference.to_string(), source })?;
        lock(&self.compiled).insert(digest.to_owned());
        Ok(())
    }

    async fn digest(&self, image: &Image, command: &str) -> Result<String, CodeError> {
        let mut file = self.open(image, command)?;
        let hashed = tokio::task::spawn_blocking(move || hash(&mut file)).await.map_err(io::Error::other).flatten();
        hashed.map_err(|source| CodeError::Read {
            image: image.reference.to_string(),
            path: command.to_owned(),
            source,
        })
    }

    /// As a process in this root would find it.
    fn open(&self, image: &Image, command: &str) -> Result<File, CodeError> {
        let name = image.reference.to_string();
        let path = image.config.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
        let path = path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH);
        for candidate in candidates(command, path, &image.config.working_dir) {
            let found = self.store.open_in_image(image, &candidate);
            if let Some(file) = found.map_err(|source| CodeError::Store { image: name.clone(), source })? {
                return Ok(file);
            }
        }
        Err(CodeError::NoFile { image: name, command: command.to_owned() })
    }
}

/// `command` of the container, else the image's entrypoint, else the first word of either's arguments.
fn command(image: &Image, container: &Container) -> Result<String, CodeError> {
    let first = |words: Option<&Vec<String>>| words.and_then(|words| words.first()).cloned();
    let own = first(container.command.as_ref());
    let entrypoint = || image.config.entrypoint.first().cloned();
    let arguments = || first(container.args.as_ref()).or_else(|| image.config.cmd.first().cloned());
    own.or_else(entrypoint)
        .or_else(arguments)
        .ok_or_else(|| CodeError::NoCommand { image: image.reference.to_string() })
}

fn candidates(command: &str, path: &str, working_dir: &str) -> Vec<String> {
    if command.starts_with('/') {
        return vec![command.to_owned()];
    }
    if command.contains('/') {
        return vec![format!("{}/{command}", working_dir.trim_end_matches('/'))];
    }
    path.split(':').map(|dir| format!("{}/{command}", dir.trim_end_matches('/'))).collect()
}

fn hash(file: &mut File) -> io::Result<String> {
    use sha2::{Digest as _, Sha256};
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hasher.finalize()))),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_looked_for_as_a_shell_would() {
        assert_eq!(candidates("/app", "/bin", "/w"), ["/app"]);
        assert_eq!(candidates("./app", "/bin", "/w/"), ["/w/./app"]);
        assert_eq!(candidates("bin/app", "/bin", ""), ["/bin/app"]);
        assert_eq!(candidates("app", "/usr/bin:/bin/", "/w"), ["/usr/bin/app", "/bin/app"]);
    }

    #[test]
    fn a_file_is_named_by_the_hash_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "").unwrap();
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash(&mut File::open(path).unwrap()).unwrap(), empty);
    }
}
