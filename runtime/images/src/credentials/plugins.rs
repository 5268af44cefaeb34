//! The kubelet's credential-provider plugins (`CredentialProviderConfig`, KEP-2133; service-account tokens KEP-4412).
//!
//! A plugin is a program in one directory; it is given an image and answers with credentials and for how long and for what they may
//! be kept. Each is asked once at a time for the same thing.

mod cache;
mod config;
mod protocol;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cache::{Cache, Scope};
pub use config::PluginConfigError;
use config::{CacheBy, Provider};
use futures::future::BoxFuture;
pub use protocol::check as check_provider_response;
use sha2::{Digest as _, Sha256};

use super::exec::{Exec, ExecError, LONGEST_TIME};
use super::{Keyring, Owner};
use crate::reference::Reference;
use crate::registry::Credential;

/// Plugins, in the order of their configuration.
#[derive(Debug, Default)]
pub struct Plugins {
    directory: PathBuf,
    providers: Vec<(Provider, Cache)>,
}

/// In whose name a pod runs, for plugins that want its token.
pub trait Account: Send + Sync {
    /// The pod's namespace.
    fn namespace(&self) -> &str;
    /// Name of the service account.
    fn name(&self) -> &str;
    /// What the API server says of it.
    fn facts(&self) -> BoxFuture<'_, Result<AccountFacts, String>>;
    /// A token for an audience, or why there is none.
    fn token<'a>(&'a self, audience: &'a str) -> BoxFuture<'a, Result<String, String>>;
}

/// What plugins need to know of a service account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// Tells it apart from one of the same name that was deleted.
    pub uid: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Plugins {
    /// Reads a `CredentialProviderConfig`; the programs are in `directory` and have to be there.
    pub fn read(config: &Path, directory: &Path) -> Result<Self, PluginConfigError> {
        let providers = config::read(config, directory)?;
        let providers = providers.into_iter().map(|provider| (provider, Cache::default())).collect();
        Ok(Self { directory: directory.to_owned(), providers })
    }

    /// What the plugins know of an image, those first that are listed first. One that fails is told of and passed over.
    pub async fn lookup(&self, image: &Reference, account: Option<&dyn Account>) -> Vec<(Credential, Owner)> {
        let mut found = Vec::new();
        for (provider, cache) in &self.providers {
            if !provider.images.iter().any(|pattern| pattern.fits(image)) {
                continue;
            }
            match self.ask(provider, cache, image, account).await {
                Ok((keys, owner)) => found.extend(keys.lookup(image).into_iter().map(|key| (key, owner.clone()))),
                Err(problem) => tracing::warn!(plugin = provider.name, %image, %problem, "credential plugin failed"),
            }
        }
        found
    }

    async fn ask(
        &self,
        provider: &Provider,
        cache: &Cache,
        image: &Reference,
        account: Option<&dyn Account>,
    ) -> Result<(Keyring, Owner), String> {
        let Some(shown) = Shown::of(provider, account).await? else { return Ok((Keyring::default(), Owner::Node)) };
        let owner = shown.account.clone().map_or(Owner::Node, |uid| Owner::ServiceAccount { uid });
        // Who waits here finds what the one before was told.
        let _turn = cache.turn(&shown.identity, image).await;
        if let Some(keys) = cache.get(&shown.identity, image, Instant::now()) {
            return Ok((keys, owner));
        }
        let answer = self.exec(provider, image, &shown).await.map_err(|error| error.to_string())?;
        if let (Some(wants), Some(token)) = (&provider.token, &shown.token)
            && wants.cache_by == CacheBy::ServiceAccount
            && answer.keys.has_password(token)
        {
            // It would be kept, and shown, for longer than it is good.
            return Err("it gives the service account's token back, for which its cacheType must be Token".to_owned());
        }
        let life = answer.life.unwrap_or(provider.default_life);
        if !life.is_zero() {
            cache.put(shown.identity, Scope::of(answer.by, image), answer.keys.clone(), Instant::now() + life);
        }
        Ok((answer.keys, owner))
    }

    async fn exec(&self, provider: &Provider, image: &Reference, shown: &Shown) -> Result<protocol::Answer, ExecError> {
        let program = self.directory.join(&provider.name);
        let request = protocol::request(&provider.api_version, &image.name(), shown);
        let exec = Exec {
            program: &program,
            arguments: &provider.arguments,
            environment: &provider.environment,
            input: request.as_bytes(),
            longest: LONGEST_TIME,
        };
        let output = exec.run().await?;
        protocol::read(&output, &provider.api_version)
            .map_err(|problem| ExecError::Answer { program: provider.name.clone(), problem })
    }
}

/// What a plugin is shown of a pod's service account.
#[derive(Default)]
struct Shown {
    token: Option<String>,
    /// UID of the account whose token it is.
    account: Option<String>,
    annotations: BTreeMap<String, String>,
    /// Tells apart who must not get what another was given. Hashed: tokens are not kept.
    identity: String,
}

impl Shown {
    /// `None`: the plugin is not for this pod, which has no service account, or one that does not ask for it by its annotations.
    async fn of(provider: &Provider, account: Option<&dyn Account>) -> Result<Option<Self>, String> {
        let Some(wants) = &provider.token else { return Ok(Some(Self::default())) };
        let Some(account) = account else {
            return Ok((!wants.required).then(Self::default));
        };
        let facts = account.facts().await?;
        let mut annotations = BTreeMap::new();
        for (keys, required) in [(&wants.required_annotations, true), (&wants.optional_annotations, false)] {
            for key in keys {
                match facts.annotations.get(key) {
                    Some(value) => drop(annotations.insert(key.clone(), value.clone())),
                    None if required => {
                        let (plugin, namespace, name) = (&provider.name, account.namespace(), account.name());
                        tracing::debug!(plugin, namespace, name, key, "the service account lacks an annotation");
                        return Ok(None);
                    }
                    None => {}
                }
            }
        }
        let token = account.token(&wants.audience).await?;
        let mut parts = vec![account.namespace(), account.name(), facts.uid.as_str()];
        if wants.cache_by == CacheBy::Token {
            parts.push(&token);
        }
        parts.extend(annotations.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]));
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let identity = hex::encode(hasher.finalize());
        Ok(Some(Self { token: Some(token), account: Some(facts.uid), annotations, identity }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    struct Pod(AccountFacts);

    impl Account for Pod {
        fn namespace(&self) -> &str {
            "shop"
        }

        fn name(&self) -> &str {
            "buyer"
        }

        fn facts(&self) -> BoxFuture<'_, Result<AccountFacts, String>> {
            async { Ok(self.0.clone()) }.boxed()
        }

        fn token<'a>(&'a self, audience: &'a str) -> BoxFuture<'a, Result<String, String>> {
            async move { Ok(format!("for {audience}")) }.boxed()
        }
    }

    #[tokio::test]
    async fn an_annotation_that_is_missing_is_no_failure_for_it_is_how_an_account_opts_in() {
        let token = config::Token {
            audience: "registry".into(),
            required: true,
            cache_by: CacheBy::Token,
            required_annotations: vec!["shop/role".into()],
            optional_annotations: vec!["shop/other".into()],
        };
        let provider = Provider {
            name: "p".into(),
            images: Vec::new(),
            default_life: Duration::ZERO,
            api_version: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            token: Some(token),
        };
        for (annotation, expected) in [("shop/role", Some("for registry")), ("shop/other", None)] {
            let annotations = BTreeMap::from([(annotation.to_owned(), "x".to_owned())]);
            let pod = Pod(AccountFacts { uid: "uid".into(), annotations });
            let shown = Shown::of(&provider, Some(&pod)).await.map(|shown| shown.and_then(|shown| shown.token));
            assert_eq!(shown, Ok(expected.map(str::to_owned)), "{annotation}");
        }
    }
}
