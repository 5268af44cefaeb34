//! A keyring from a pod's image pull secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use samara_core::events::{Event, reason};
use samara_core::objects::Fetched;

use super::keyring::Keyring;

/// What the secrets offer. One that is missing or holds no credentials is told and passed over: the pull may do without.
pub(super) fn keyring(secrets: &BTreeMap<String, Fetched<Secret>>, record: &(dyn Fn(Event) + Send + Sync)) -> Keyring {
    let mut keyring = Keyring::default();
    for (name, secret) in secrets {
        match secret.clone().map_err(|error| error.to_string()).and_then(|secret| of(&secret)) {
            Ok(keys) => keyring.extend(keys),
            Err(error) => record(Event::warning(
                reason::FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET,
                format!(
                    "Unable to retrieve some image pull secrets ({name}); attempting to pull the image may not succeed: {error}"
                ),
            )),
        }
    }
    keyring
}

fn of(secret: &Arc<Secret>) -> Result<Keyring, String> {
    let data = secret.data.as_ref();
    let entry = |key: &str| data.and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let keyring = match (entry(".dockerconfigjson"), entry(".dockercfg")) {
        (Some(text), _) => Keyring::from_config_json(text),
        (None, Some(text)) => Keyring::from_config(text),
        (None, None) => return Err("the secret has neither .dockerconfigjson nor .dockercfg".to_owned()),
    };
    keyring.map_err(|error| error.to_string())
}
