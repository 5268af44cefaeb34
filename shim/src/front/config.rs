//! Reading a bundle's `config.json`.

use std::io;

use oci_spec::runtime::Spec;

use super::error::TaskError;
use super::hostfile;
use samara_shim_client::bundle::Bundle;

/// Far above what Kubernetes lets through; a larger file is a mistake or an attack.
const LARGEST: u64 = 16 << 20;

/// Reads and checks the form.
pub(crate) fn read(bundle: &Bundle) -> Result<Spec, TaskError> {
    let path = bundle.config();
    let bytes = match hostfile::read(&path, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(TaskError::HugeConfig { path, limit: LARGEST });
        }
        Err(source) => return Err(TaskError::ReadConfig { path, source }),
    };
    serde_json::from_slice(&bytes).map_err(|source| TaskError::ParseConfig { path, source })
}
