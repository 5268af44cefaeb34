//! Rights: what goes into `Authorization`, and the tokens which some registries want there (docker's token scheme and its OAuth 2 form).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::place::{Place, in_time};
use super::session::{Purpose, Shared};
use super::{Credential, RegistryFailure, answer, error};

const CLIENT_ID: &str = "samara";
const LONGEST_TOKEN: u64 = 1 << 20;
/// The scheme's own default, for services that do not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// What a service says of a token's life is not believed beyond this.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token that ends while its request is on the way helps nobody.
const MARGIN: Duration = Duration::from_secs(10);
const MOST_KEPT: usize = 1024;
/// Nor does a registry need more rights for one request.
const MOST_SCOPES: usize = 4;

/// What was shown with success, by whom and for what.
#[derive(Default)]
pub(super) struct Tokens {
    kept: Mutex<HashMap<Key, (HeaderValue, Instant)>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) base: Url,
    pub(super) repository: String,
    pub(super) purpose: Purpose,
    pub(super) credential: Credential,
}

impl Tokens {
    /// What to show at once, without having been asked.
    pub(super) fn known(&self, key: &Key) -> Option<HeaderValue> {
        if let Credential::Bearer(token) = &key.credential {
            return bearer(token);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(_, end)| *end > Instant::now()).map(|(header, _)| header.clone())
    }

    /// Forgets what was refused.
    pub(super) fn forget(&self, key: &Key) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn keep(&self, key: Key, header: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, (_, end)| *end > now);
        }
        if kept.len() < MOST_KEPT {
            kept.insert(key, (header, now + life.saturating_sub(MARGIN)));
        }
    }

    /// Meets a challenge. `None`: there is nothing to meet it with.
    pub(super) async fn obtain(
        &self,
        shared: &Shared,
        place: &Place,
        key: Key,
        challenge: Challenge,
    ) -> Result<Option<HeaderValue>, RegistryFailure> {
        let (header, life) = match (challenge, &key.credential) {
            (_, Credential::Bearer(_)) | (Challenge::Basic, Credential::Anonymous | Credential::Identity(_)) => {
                return Ok(None);
            }
            (Challenge::Basic, Credential::Basic { username, password }) => {
                (Some(basic(username, password)), LONGEST_LIFE)
            }
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let (config, endpoint) = (&shared.config, &place.endpoint);
                let scopes = scopes(&key.repository, key.purpose, scope.as_deref());
                let fetched = async {
                    let url = realm_url(&realm, endpoint)?;
                    let client = shared.clients.for_tokens(config, endpoint, &url)?;
                    let own = if endpoint.is_same_place(&url) { endpoint.headers.clone() } else { HeaderMap::new() };
                    let request = request(&client, url, own, service.as_deref(), &scopes, credential);
                    let response = in_time(config, request).await?;
                    if response.status() != StatusCode::OK {
                        return Err(answer::failure(response).await);
                    }
                    read_token(&answer::read(response, LONGEST_TOKEN, config).await?)
                };
                let failed = |failure| {
                    let realm = Url::parse(&realm).map_or_else(|_| realm.clone(), |url| error::public(&url));
                    RegistryFailure::TokenService { realm, failure: Box::new(failure) }
                };
                let token = fetched.await.map_err(failed)?;
                (bearer(&token.token), token.life)
            }
        };
        let Some(header) = header else {
            return Err(RegistryFailure::Unexpected("its token is no text for a header".to_owned()));
        };
        self.keep(key, header.clone(), life);
        Ok(Some(header))
    }
}

/// A registry spoken to with TLS must not have passwords sent in the clear.
fn realm_url(realm: &str, endpoint: &Endpoint) -> Result<Url, RegistryFailure> {
    let url = Url::parse(realm).map_err(|error| RegistryFailure::Unexpected(format!("its address: {error}")))?;
    match (endpoint.base.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => Ok(url),
        _ => Err(RegistryFailure::Unexpected("it is not reached by TLS, and the registry is".to_owned())),
    }
}

/// The rights that are asked for: to our repository, and to those that the registry names beside it, since a mirror may keep it under
/// another name. No more is done with them than what this is for. A registry gains nothing by naming what is not its own: the
/// credential is one that it could ask to be shown itself.
fn scopes(repository: &str, purpose: Purpose, named: Option<&str>) -> Vec<String> {
    let Some(actions) = purpose.actions() else { return Vec::new() };
    let mut scopes = vec![format!("repository:{repository}:{}", actions.join(","))];
    for scope in named.unwrap_or_default().split(' ') {
        let parts = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'));
        let Some((name, asked)) = parts.filter(|(name, _)| !name.is_empty() && *name != repository) else { continue };
        let asked: Vec<&str> = asked.split(',').filter(|action| actions.contains(action)).collect();
        let scope = format!("repository:{name}:{}", asked.join(","));
        if !asked.is_empty() && scopes.len() < MOST_SCOPES && !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}

struct Token {
    token: String,
    life: Duration,
}

/// Anyone and passwords by docker's own form of the request, identity tokens by that of OAuth 2. Redirects are not followed: what is
/// sent is for this service alone.
fn request(
    client: &Client,
    mut url: Url,
    mut headers: HeaderMap,
    service: Option<&str>,
    scopes: &[String],
    credential: &Credential,
) -> RequestBuilder {
    if let Credential::Identity(token) = credential {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("service", service.unwrap_or_default());
        if !scopes.is_empty() {
            form.append_pair("scope", &scopes.join(" "));
        }
        let form = form.append_pair("refresh_token", token).finish();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        return client.post(url).headers(headers).body(form);
    }
    let asked = service.map(|service| ("service", service));
    let asked = asked.into_iter().chain(scopes.iter().map(|scope| ("scope", scope.as_str())));
    for (name, value) in asked {
        url.query_pairs_mut().append_pair(name, value);
    }
    if let Credential::Basic { username, password } = credential {
        headers.insert(AUTHORIZATION, basic(username, password));
    }
    client.get(url).headers(headers)
}

fn read_token(body: &[u8]) -> Result<Token, RegistryFailure> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
        #[serde(default)]
        expires_in: serde_json::Value,
    }
    let unreadable = |text: String| RegistryFailure::Unexpected(format!("its token: {text}"));
    let wire: Wire = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    let token = if wire.token.is_empty() { wire.access_token } else { wire.token };
    match token.is_empty() {
        true => Err(unreadable("there is none".to_owned())),
        false => {
            let life = wire.expires_in.as_u64().map_or(DEFAULT_LIFE, Duration::from_secs);
            Ok(Token { token, life: life.clamp(DEFAULT_LIFE, LONGEST_LIFE) })
        }
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let text = STANDARD.encode(format!("{username}:{password}"));
    secret(&format!("Basic {text}")).unwrap_or(HeaderValue::from_static("Basic"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryConfig;

    #[test]
    fn tokens_are_read_under_both_names() {
        for (text, token, life) in [
            (r#"{"token":"t","expires_in":300}"#, "t", 300),
            (r#"{"access_token":"a","expires_in":5}"#, "a", 60),
            (r#"{"token":"t","access_token":"a","issued_at":"x"}"#, "t", 60),
            (r#"{"token":"t","expires_in":"soon"}"#, "t", 60),
            (r#"{"token":"t","expires_in":18446744073709551615}"#, "t", 86_400),
        ] {
            let read = read_token(text.as_bytes()).unwrap();
            assert_eq!((read.token.as_str(), read.life.as_secs()), (token, life));
        }
        for text in ["", "{}", r#"{"token":7}"#, r#"{"token":""}"#] {
            assert!(read_token(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn rights_are_asked_for_what_is_wanted_wherever_the_registry_keeps_it() {
        let many = "repository:a:pull repository:b:pull repository:c:pull repository:d:pull";
        let own = "repository:team/app:pull";
        for (purpose, named, expected) in [
            (Purpose::Pull, None, vec![own]),
            (Purpose::Pull, Some(own), vec![own]),
            (Purpose::Pull, Some("repository:cache/team/app:pull"), vec![own, "repository:cache/team/app:pull"]),
            (Purpose::Pull, Some("repository:r.test:5000/app:pull"), vec![own, "repository:r.test:5000/app:pull"]),
            // No more than to pull, of repositories alone, and not without end.
            (Purpose::Pull, Some("repository:team/app:pull,push"), vec![own]),
            (Purpose::Pull, Some("repository:other:delete,push,pull"), vec![own, "repository:other:pull"]),
            (Purpose::Pull, Some("repository:other:push registry:catalog:*"), vec![own]),
            (Purpose::Pull, Some("repository repository: repository:: repository::pull x "), vec![own]),
            (Purpose::Pull, Some(many), vec![own, "repository:a:pull", "repository:b:pull", "repository:c:pull"]),
            (Purpose::Push, Some(own), vec!["repository:team/app:pull,push"]),
            (Purpose::Push, Some("repository:x:pull"), vec!["repository:team/app:pull,push", "repository:x:pull"]),
            (Purpose::LogIn, Some(own), vec![]),
        ] {
            assert_eq!(scopes("team/app", purpose, named), expected, "{purpose:?} {named:?}");
        }
    }

    #[test]
    fn a_registry_with_tls_cannot_send_passwords_in_the_clear() {
        let tls = Endpoint::of_registry(&RegistryConfig::default(), "r.test").unwrap();
        let plain = Endpoint::of_registry(&RegistryConfig::default(), "localhost:5000").unwrap();
        assert!(realm_url("https://auth.test/token", &tls).is_ok());
        assert!(realm_url("http://auth.test/token", &tls).is_err());
        assert!(realm_url("http://auth.test/token", &plain).is_ok());
        for realm in ["", "token", "file:///etc/passwd", "ftp://x/"] {
            assert!(realm_url(realm, &plain).is_err(), "{realm}");
        }
    }

    #[test]
    fn a_password_with_strange_letters_is_still_a_header() {
        assert_eq!(basic("ü", "a\nb:c").to_str().unwrap(), "Basic w7w6YQpiOmM=");
        assert!(basic("u", "p").is_sensitive());
        assert_eq!(bearer("a\nb"), None);
    }
}
