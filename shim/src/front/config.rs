//! Reading a bundle's `config.json`.

use std::fs::File;
use std::io::Read as _;

use oci_spec::runtime::Spec;

use super::error::TaskError;
use samara_shim_client::bundle::Bundle;

/// Far above what Kubernetes lets through; a larger file is a mistake or an attack.
const LARGEST: u64 = 16 << 20;

/// Reads and checks the form.
pub(crate) fn read(bundle: &Bundle) -> Result<Spec, TaskError> {
    let path = bundle.config();
    let read = |source| TaskError::ReadConfig { path: path.clone(), source };
    let mut bytes = Vec::new();
    File::open(&path).map_err(read)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > LARGEST {
        return Err(TaskError::HugeConfig { path, limit: LARGEST });
    }
    serde_json::from_slice(&bytes).map_err(|source| TaskError::ParseConfig { path, source })
}
