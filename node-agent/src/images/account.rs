//! A pod's service account, for credential plugins that want its token (KEP-4412).

use futures::FutureExt as _;
use futures::future::BoxFuture;
use samara_core::volumes::TokenRequest;
use samara_images::{Account, AccountFacts};

use crate::objects::Tokens;
use crate::pods::PodRef;

/// What is asked for; the API server may give less.
const EXPIRATION_SECONDS: i64 = 3600;

/// The account of one pod. Nothing is asked before a plugin wants it.
#[derive(Debug)]
pub(crate) struct PodAccount<'a> {
    pub(crate) tokens: &'a Tokens,
    pub(crate) pod: &'a PodRef,
    pub(crate) name: &'a str,
}

impl Account for PodAccount<'_> {
    fn namespace(&self) -> &str {
        &self.pod.namespace
    }

    fn name(&self) -> &str {
        self.name
    }

    fn facts(&self) -> BoxFuture<'_, Result<AccountFacts, String>> {
        async {
            let account = self.tokens.account(&self.pod.namespace, self.name).await;
            let meta = account.map_err(|error| error.to_string())?.metadata;
            Ok(AccountFacts { uid: meta.uid.unwrap_or_default(), annotations: meta.annotations.unwrap_or_default() })
        }
        .boxed()
    }

    fn token<'a>(&'a self, audience: &'a str) -> BoxFuture<'a, Result<String, String>> {
        async {
            let wish = TokenRequest { audience: audience.to_owned(), expiration_seconds: EXPIRATION_SECONDS };
            let token = self.tokens.request(self.pod, self.name, &wish).await;
            token.map(|token| token.text).map_err(|error| error.to_string())
        }
        .boxed()
    }
}
