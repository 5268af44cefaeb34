//! Service-account tokens, bound to the pod that asks (kubelet: `token/token_manager.go`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest as ApiTokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use samara_core::volumes::TokenRequest;

use crate::pods::PodRef;

/// Between tries that the authorizer refused: doubled each time, for about a second in all.
const FIRST_RETRY: Duration = Duration::from_millis(2);
const TRIES: u32 = 10;
/// A token is replaced when less than a fifth of its time is left, or when it is this old.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);

/// Asks for tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Option<Client>);

/// A token and when to replace it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub refresh_at: Timestamp,
    /// Until then it is good, replaced or not.
    pub expires: Timestamp,
}

/// The API server gave no token.
#[derive(Debug, thiserror::Error)]
#[error("failed to fetch token: {0}")]
pub struct TokenError(String);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// Without the token's text.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("refresh_at", &self.refresh_at).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(client: Option<Client>) -> Self {
        Self(client)
    }

    /// The account itself. The authorizer lets a node read it while one of its pods runs as it.
    pub async fn account(&self, namespace: &str, name: &str) -> Result<ServiceAccount, TokenError> {
        let Some(client) = self.0.clone() else {
            return Err(TokenError("this node has no API server that could give one".to_owned()));
        };
        let api = Api::<ServiceAccount>::namespaced(client, namespace);
        let mut delay = FIRST_RETRY;
        for _ in 1..TRIES {
            match api.get(name).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {}
                answer => return answer.map_err(|error| TokenError(error.to_string())),
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        api.get(name).await.map_err(|error| TokenError(error.to_string()))
    }

    /// A new token of `service_account` that is good while `pod` exists.
    pub async fn request(&self, pod: &PodRef, service_account: &str, wish: &TokenRequest) -> Result<Token, TokenError> {
        let Some(client) = self.0.clone() else {
            return Err(TokenError("this node has no API server that could give one".to_owned()));
        };
        let api = Api::<ServiceAccount>::namespaced(client, &pod.namespace);
        let request = ApiTokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![wish.audience.clone()]).filter(|_| !wish.audience.is_empty()),
                expiration_seconds: Some(wish.expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.name.to_string()),
                    uid: Some(pod.uid.to_string()),
                }),
            }),
            ..ApiTokenRequest::default()
        };
        let mut delay = FIRST_RETRY;
        for _ in 1..TRIES {
            match api.create_token_request(service_account, &PostParams::default(), &request).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {}
                answer => return token(answer, Timestamp::now()),
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        token(api.create_token_request(service_account, &PostParams::default(), &request).await, Timestamp::now())
    }
}

impl Token {
    /// A token that an earlier agent was given: what it says of its own life counts. `None` if it says nothing.
    pub fn held(text: String) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Claims {
            iat: i64,
            exp: i64,
        }
        let payload = text.split('.').nth(1)?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let (issued, expires) = (Timestamp::from_second(claims.iat).ok()?, Timestamp::from_second(claims.exp).ok()?);
        Some(Self { refresh_at: refresh_at(issued, expires), expires, text })
    }
}

fn token(answer: kube::Result<ApiTokenRequest>, now: Timestamp) -> Result<Token, TokenError> {
    let missing = || TokenError("the answer holds no token".to_owned());
    let status = answer.map_err(|error| TokenError(error.to_string()))?.status.ok_or_else(missing)?;
    let expires = status.expiration_timestamp.ok_or_else(missing)?.0;
    Ok(Token { refresh_at: refresh_at(now, expires), expires, text: status.token.ok_or_else(missing)? })
}

/// When four fifths of the time are over, or after a day.
fn refresh_at(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now).max(SignedDuration::ZERO);
    now.saturating_add((life / 5 * 4).min(OLDEST)).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_replaced_after_four_fifths_of_its_life_or_a_day() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let table = [(3607, 2884), (600, 480), (7 * 86_400, 86_400), (0, 0), (-5, 0)];
        for (life, want) in table {
            let expires = now + SignedDuration::from_secs(life);
            let seconds = refresh_at(now, expires).duration_since(now).as_secs();
            assert!((seconds - want).abs() <= 2, "{life}: {seconds}");
        }
    }

    #[test]
    fn a_token_that_is_held_tells_its_own_time() {
        let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let text = jwt(r#"{"iat":1000,"exp":2000,"aud":["a"]}"#);
        let held = Token::held(text.clone()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(held, Token { text, refresh_at: at(1800), expires: at(2000) });
        for wrong in [
            String::new(),
            "a.b.c".to_owned(),
            jwt("{}"),
            jwt(r#"{"iat":1}"#),
            jwt("[]"),
            jwt(r#"{"iat":1,"exp":99999999999999999}"#),
        ] {
            assert_eq!(Token::held(wrong.clone()), None, "{wrong:?}");
        }
    }

    /// An API server that answers these statuses in turn, the last one for ever, and when it was asked.
    fn answering(statuses: &'static [u16]) -> (Tokens, Arc<Mutex<Vec<tokio::time::Instant>>>) {
        let asked = Arc::<Mutex<Vec<tokio::time::Instant>>>::default();
        let seen = asked.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/shop/serviceaccounts/buyer/token");
            let mut asked = seen.lock().unwrap();
            let status = statuses[asked.len().min(statuses.len() - 1)];
            asked.push(tokio::time::Instant::now());
            let answer = match status {
                200 => json!({ "status": { "token": "good", "expirationTimestamp": "2100-01-01T00:00:00Z" } }),
                code => json!({ "kind": "Status", "code": code, "message": "not yet in the graph" }),
            };
            let answer = http::Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
            std::future::ready(answer)
        });
        (Tokens::new(Some(Client::new(service, "shop"))), asked)
    }

    async fn request(tokens: &Tokens) -> Result<Token, TokenError> {
        let pod = PodRef { uid: "u".into(), namespace: "shop".into(), name: "web".into() };
        tokens.request(&pod, "buyer", &TokenRequest { audience: String::new(), expiration_seconds: 3607 }).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_while_the_authorizer_lags_is_tried_again_after_two_four_and_eight_milliseconds() {
        let (tokens, asked) = answering(&[403, 404, 403, 200]);
        assert_eq!(request(&tokens).await.unwrap().text, "good");
        let asked = asked.lock().unwrap();
        let pauses: Vec<u128> = asked.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
        assert_eq!(pauses, [2, 4, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_stays_is_told_and_another_error_at_once() {
        let (tokens, asked) = answering(&[403]);
        assert!(request(&tokens).await.unwrap_err().to_string().contains("not yet in the graph"));
        assert_eq!(asked.lock().unwrap().len(), 10);
        let (tokens, asked) = answering(&[422]);
        request(&tokens).await.unwrap_err();
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_token_is_never_printed() {
        let (refresh_at, expires) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let token = Token { text: "secret".to_owned(), refresh_at, expires };
        assert!(!format!("{token:?}").contains("secret"));
    }
}
