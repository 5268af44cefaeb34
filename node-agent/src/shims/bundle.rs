//! Bundles on disk: `<run-dir>/bundles/<pod uid>/<container>_<attempt>/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use samara_inside::remove_directory_at;

use super::record::{Record, RecordError};

/// Attempts found on disk, by pod UID.
pub type Adoptable = BTreeMap<String, Vec<(PathBuf, Record)>>;

/// Makes a bundle: its directory, an empty `rootfs`, `config.json`, and the record.
pub fn write_bundle(dir: &Path, spec: &Spec, record: &Record) -> Result<(), RecordError> {
    let error = |path: PathBuf| move |source: io::Error| RecordError::at(path, source);
    let rootfs = dir.join("rootfs");
    fs::create_dir_all(&rootfs).map_err(error(rootfs.clone()))?;
    let config = dir.join("config.json");
    let bytes = serde_json::to_vec(spec).map_err(|source| RecordError::at(config.clone(), io::Error::other(source)))?;
    fs::write(&config, bytes).map_err(error(config.clone()))?;
    record.write(dir)
}

/// All attempts of all pods. What cannot be read is removed: the agent died while it made it, and no task has it.
pub fn adoptable(bundles: &Path) -> Result<Adoptable, RecordError> {
    let mut found = Adoptable::new();
    for pod in children(bundles)? {
        let Some(uid) = pod.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let attempts = found.entry(uid).or_default();
        for bundle in children(&pod)? {
            match Record::read(&bundle) {
                Ok(Some(record)) => attempts.push((bundle, record)),
                Ok(None) => {
                    tracing::info!(bundle = %bundle.display(), "removing a bundle that was never finished");
                    drop(remove_directory_at(&bundle));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "removing a bundle that cannot be read");
                    drop(remove_directory_at(&bundle));
                }
            }
        }
    }
    Ok(found)
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| RecordError::at(dir.to_owned(), source))?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(|source| RecordError::at(dir.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_found_again_by_pod_and_broken_ones_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            id: "a".repeat(64),
            name: "app".to_owned(),
            init: true,
            attempt: 0,
            image: String::new(),
            image_id: String::new(),
            spec_hash: String::new(),
            front: 1,
            log: PathBuf::new(),
            started_at: None,
            ended: None,
        };
        let whole = dir.path().join("uid-1/app_0");
        write_bundle(&whole, &Spec::default(), &record).unwrap();
        let unfinished = dir.path().join("uid-1/app_1");
        fs::create_dir_all(&unfinished).unwrap();
        let broken = dir.path().join("uid-2/app_0");
        fs::create_dir_all(&broken).unwrap();
        fs::write(broken.join("agent.json"), "{").unwrap();

        let found = adoptable(dir.path()).unwrap();
        assert_eq!(found["uid-1"], [(whole.clone(), record)]);
        assert_eq!(found["uid-2"], []);
        assert!(!unfinished.exists() && !broken.exists());
        assert!(Spec::load(whole.join("config.json")).is_ok());
        assert_eq!(adoptable(&dir.path().join("nowhere")).unwrap(), Adoptable::new());
    }
}
