//! What one pod reads: its ConfigMaps and Secrets, followed while it lives, and its tokens.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::{join_all, select_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use samara_core::objects::{Fetched, Objects as Values};
use samara_core::volumes::{TokenRequest, references, token_requests};

use super::{Objects, Subscription, Token, TokenError};
use crate::pods::PodRef;

/// Interests of one pod. Dropping it ends them.
#[derive(Debug)]
pub struct PodObjects {
    objects: Objects,
    pod: PodRef,
    service_account: String,
    config_maps: BTreeMap<String, Subscription<ConfigMap>>,
    secrets: BTreeMap<String, Subscription<Secret>>,
    tokens: BTreeMap<TokenRequest, Option<Token>>,
}

/// A pod's tokens. Refused ones do not stand in the way of the others (kubelet: `token_manager.go`).
#[derive(Debug, Default)]
pub struct PodTokens {
    /// Those that are good.
    pub good: BTreeMap<TokenRequest, String>,
    /// Requests that were refused. What was to be replaced is among the good ones until it expires.
    pub refused: Vec<(TokenRequest, TokenError)>,
}

impl PodTokens {
    /// A good one for each request.
    pub fn all(self) -> Result<BTreeMap<TokenRequest, String>, TokenError> {
        let Self { good, refused } = self;
        match refused.into_iter().find(|(wish, _)| !good.contains_key(wish)) {
            Some((_, error)) => Err(error),
            None => Ok(good),
        }
    }
}

impl PodObjects {
    /// Begins to fetch everything, without waiting.
    pub fn of(objects: &Objects, pod: &PodRef, spec: &Pod) -> Self {
        let wanted = references(spec);
        let config_maps = wanted.config_maps.into_iter();
        let secrets = wanted.secrets.into_iter().chain(wanted.image_pull_secrets);
        let service_account = spec.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        Self {
            objects: objects.clone(),
            pod: pod.clone(),
            service_account: service_account.unwrap_or_else(|| "default".to_owned()),
            config_maps: config_maps
                .map(|name| (name.clone(), objects.config_maps.subscribe(&pod.namespace, &name)))
                .collect(),
            secrets: secrets.map(|name| (name.clone(), objects.secrets.subscribe(&pod.namespace, &name))).collect(),
            tokens: token_requests(spec).into_iter().map(|(_, request)| (request, None)).collect(),
        }
    }

    /// Takes up tokens that an earlier agent was given, so that those which are good are not asked for again.
    pub fn hold(&mut self, held: BTreeMap<TokenRequest, String>) {
        for (wish, text) in held {
            if let (Some(place), Some(token)) = (self.tokens.get_mut(&wish), Token::held(text)) {
                *place = Some(token);
            }
        }
    }

    /// All as it is now; waits until each is known to be there or not.
    pub async fn values(&mut self) -> Values {
        let services = self.objects.services.of(&self.pod.namespace);
        let (config_maps, secrets, services) =
            tokio::join!(all(&mut self.config_maps), all(&mut self.secrets), services);
        Values { config_maps, secrets, services }
    }

    /// [`PodObjects::values`] and [`PodObjects::tokens`] side by side.
    pub async fn fetch(&mut self, now: Timestamp) -> (Values, PodTokens) {
        let services = self.objects.services.of(&self.pod.namespace);
        let fresh = fresh_tokens(&self.objects, &self.pod, &self.service_account, &self.tokens, now);
        let (config_maps, secrets, services, fresh) =
            tokio::join!(all(&mut self.config_maps), all(&mut self.secrets), services, fresh);
        (Values { config_maps, secrets, services }, self.take_tokens(fresh, now))
    }

    /// A token for each request: asked for anew where there is none or it is old.
    pub async fn tokens(&mut self, now: Timestamp) -> PodTokens {
        let fresh = fresh_tokens(&self.objects, &self.pod, &self.service_account, &self.tokens, now).await;
        self.take_tokens(fresh, now)
    }

    fn take_tokens(&mut self, fresh: Vec<(TokenRequest, Result<Token, TokenError>)>, now: Timestamp) -> PodTokens {
        let mut tokens = PodTokens::default();
        for (wish, answer) in fresh {
            match answer {
                // Whatever this machine's clock says of it.
                Ok(token) => {
                    tokens.good.insert(wish.clone(), token.text.clone());
                    self.tokens.insert(wish, Some(token));
                }
                Err(error) => tokens.refused.push((wish, error)),
            }
        }
        let old = self.tokens.iter().filter_map(|(wish, token)| Some((wish, token.as_ref()?)));
        let old = old.filter(|(_, token)| token.expires > now).map(|(wish, token)| (wish.clone(), token.text.clone()));
        tokens.good.extend(old);
        tokens
    }

    /// When the next token has to be replaced.
    pub fn refresh_at(&self) -> Option<Timestamp> {
        self.tokens.values().map(|token| token.as_ref().map_or(Timestamp::MIN, |token| token.refresh_at)).min()
    }

    /// Waits until one of the objects changes.
    pub async fn changed(&mut self) {
        let config_maps =
            self.config_maps.values_mut().map(|one| Box::pin(one.changed()) as futures::future::BoxFuture<'_, ()>);
        let secrets =
            self.secrets.values_mut().map(|one| Box::pin(one.changed()) as futures::future::BoxFuture<'_, ()>);
        let all: Vec<_> = config_maps.chain(secrets).collect();
        if all.is_empty() {
            return std::future::pending().await;
        }
        select_all(all).await;
    }
}

async fn fresh_tokens(
    objects: &Objects,
    pod: &PodRef,
    service_account: &str,
    tokens: &BTreeMap<TokenRequest, Option<Token>>,
    now: Timestamp,
) -> Vec<(TokenRequest, Result<Token, TokenError>)> {
    let old = tokens.iter().filter(|(_, token)| token.as_ref().is_none_or(|token| token.refresh_at <= now));
    let requests: Vec<_> = old
        .map(|(wish, _)| async { (wish.clone(), objects.tokens.request(pod, service_account, wish).await) })
        .collect();
    join_all(requests).await
}

async fn all<K: Debug>(subscriptions: &mut BTreeMap<String, Subscription<K>>) -> BTreeMap<String, Fetched<K>>
where
    Arc<K>: Clone,
{
    let each = subscriptions.iter_mut().map(|(name, subscription)| async { (name.clone(), subscription.get().await) });
    join_all(each).await.into_iter().collect()
}
