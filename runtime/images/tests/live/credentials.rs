//! Registries that ask who is there: by themselves, and by a token service.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use samara_images::{Artifact, Credential, PullCause, PullError, Pusher, RegistryConfig, RegistryFailure, Retry};
use serde_json::json;

use crate::registry::{PASSWORD, Registry, USER};
use crate::script::{Documents, Reply, Request, Script};
use crate::{MODULE, Node};

fn right() -> Credential {
    Credential::Basic { username: USER.into(), password: PASSWORD.into() }
}

fn wrong() -> Credential {
    Credential::Basic { username: USER.into(), password: "guess".into() }
}

fn artifact() -> (Artifact, tempfile::NamedTempFile) {
    crate::install_tls();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), MODULE).unwrap();
    (Artifact::wasm(file.path()).unwrap(), file)
}

fn is_unauthorized(error: &PullError) -> bool {
    assert_eq!(error.retry(), Retry::Later(None));
    let PullCause::Registry(error) = &error.cause else { return false };
    let mut failure = &error.failure;
    if let RegistryFailure::TokenService { failure: inner, .. } = failure {
        failure = inner;
    }
    matches!(failure, RegistryFailure::Unauthorized(_))
}

/// Push and pull with the right credential, and with others.
async fn exercise(registry: &Registry) {
    let (artifact, _file) = artifact();
    let reference = registry.image("team/app:v1");
    let pusher = Pusher::new(registry.config());
    for credential in [Credential::Anonymous, wrong()] {
        let error = pusher.push(&reference, &artifact, &credential, &()).await.unwrap_err();
        assert!(error.to_string().contains("401"), "{error}");
    }
    pusher.push(&reference, &artifact, &right(), &()).await.unwrap();
    for credentials in [vec![], vec![wrong()]] {
        let error = Node::new().puller.pull(&reference, &credentials, &()).await.unwrap_err();
        assert!(is_unauthorized(&error), "{error}");
        assert!(!error.to_string().contains("guess"));
    }
    let node = Node::new();
    node.puller.pull(&reference, &[right()], &()).await.unwrap();
    node.puller.pull(&reference, &[right()], &()).await.unwrap();
    let several = [Credential::Anonymous, wrong(), right()];
    Node::new().puller.pull(&reference, &several, &()).await.unwrap();
}

#[tokio::test]
async fn basic_authentication_lets_the_right_one_in() {
    exercise(&Registry::with_basic_auth()).await;
}

#[tokio::test]
async fn tokens_are_fetched_from_the_service_that_the_registry_names() {
    let service = TokenService::start().await;
    exercise(&Registry::with_tokens(&service.realm(), &service.jwks)).await;
    let asked = service.script.asked();
    assert!(asked.iter().any(|request| request.target.contains("scope=repository%3Ateam%2Fapp%3Apull")), "{asked:?}");
    assert!(asked.iter().all(|request| request.target.contains("service=registry")), "{asked:?}");
}

/// As Docker Hub has it: nobody is asked who he is, but for a token.
#[tokio::test]
async fn what_is_public_is_pulled_with_a_token_that_anybody_gets() {
    let service = TokenService::start().await;
    let registry = Registry::with_tokens(&service.realm(), &service.jwks);
    let (public, private) =
        (registry.push("public/app:v1", MODULE, &right()).await, registry.push("team/app:v1", MODULE, &right()).await);
    let before = service.script.asked().len();
    let node = Node::new();
    let image = node.puller.pull(&public, &[], &()).await.unwrap();
    assert_eq!(node.store().get(&public).unwrap(), Some(image));
    let asked = &service.script.asked()[before..];
    let [request] = asked else { panic!("one token does for the whole pull: {asked:?}") };
    assert_eq!(request.header("authorization"), None);
    assert!(request.target.contains("scope=repository%3Apublic%2Fapp%3Apull"), "{request:?}");
    let error = node.puller.pull(&private, &[], &()).await.unwrap_err();
    assert!(is_unauthorized(&error), "{error}");
    // And no more than to pull.
    let (artifact, _file) = artifact();
    let pushed = Pusher::new(registry.config()).push(&public, &artifact, &Credential::Anonymous, &()).await;
    assert!(pushed.unwrap_err().to_string().contains("401"));
}

#[tokio::test]
async fn a_token_service_that_is_down_is_not_taken_for_a_refusal() {
    let script = Script::start(|_| Reply::status(502, "bad gateway")).await;
    let realm = format!("http://{}/token", script.address());
    let registry = Registry::with_tokens(&realm, &TokenService::start().await.jwks);
    let error = Node::new().puller.pull(&registry.image("app:v1"), &[right()], &()).await.unwrap_err();
    assert!(error.to_string().contains("bad gateway"), "{error}");
}

#[tokio::test]
async fn an_identity_token_is_changed_into_an_access_token() {
    let service = TokenService::start().await;
    let registry = Registry::with_tokens(&service.realm(), &service.jwks);
    let (artifact, _file) = artifact();
    let reference = registry.image("team/app:v1");
    let identity = Credential::Identity(IDENTITY.to_owned());
    Pusher::new(registry.config()).push(&reference, &artifact, &identity, &()).await.unwrap();
    Node::new().puller.pull(&reference, std::slice::from_ref(&identity), &()).await.unwrap();
    let stale = Credential::Identity("stale".to_owned());
    let error = Node::new().puller.pull(&reference, std::slice::from_ref(&stale), &()).await.unwrap_err();
    assert!(is_unauthorized(&error), "{error}");
    assert!(!error.to_string().contains("stale"), "{error}");
    // The token goes in a body, where no log of addresses has it.
    assert!(service.script.asked().iter().all(|request| !request.target.contains(IDENTITY)));
}

#[tokio::test]
async fn a_token_service_cannot_send_what_it_is_shown_elsewhere() {
    let elsewhere = Script::start(|_| Reply::ok(r#"{"token":"t"}"#)).await;
    let target = format!("http://{}/token", elsewhere.address());
    let service = Script::start(move |_| Reply::status(307, "").header("Location", target.clone())).await;
    let realm = format!("http://{}/token", service.address());
    let registry = Registry::with_tokens(&realm, &TokenService::start().await.jwks);
    for credential in [right(), Credential::Identity(IDENTITY.to_owned())] {
        let error = Node::new().puller.pull(&registry.image("app:v1"), &[credential], &()).await.unwrap_err();
        assert!(error.to_string().contains("307"), "{error}");
    }
    assert_eq!(elsewhere.asked().len(), 0);
    assert_eq!(service.asked().len(), 2);
}

#[tokio::test]
async fn to_log_in_no_rights_are_asked_for() {
    crate::install_tls();
    let service = TokenService::start().await;
    let registry = Registry::with_tokens(&service.realm(), &service.jwks);
    let pusher = Pusher::new(registry.config());
    pusher.log_in(registry.address(), &right()).await.unwrap();
    pusher.log_in(registry.address(), &Credential::Identity(IDENTITY.to_owned())).await.unwrap();
    let error = pusher.log_in(registry.address(), &wrong()).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    let asked = service.script.asked();
    assert_eq!(asked.len(), 3);
    for request in asked {
        let body = String::from_utf8_lossy(&request.body);
        assert!(!request.target.contains("scope") && !body.contains("scope"), "{request:?}");
    }
}

/// Answers to a user whose name is a status with that, and to `USER` with the image.
async fn by_user() -> Script {
    let served = Documents::of(MODULE);
    Script::start(move |request| {
        let Some(shown) = request.header("authorization").and_then(|header| header.strip_prefix("Basic ")) else {
            return Reply::status(401, "").header("WWW-Authenticate", "Basic realm=\"test\"");
        };
        let shown = String::from_utf8(STANDARD.decode(shown).unwrap()).unwrap();
        match shown.split(':').next().unwrap().parse() {
            Ok(status @ 429) => Reply::status(status, "").header("Retry-After", "3600"),
            Ok(status) => Reply::status(status, ""),
            Err(_) => served.answer(request),
        }
    })
    .await
}

fn user(status: u16) -> Credential {
    Credential::Basic { username: status.to_string(), password: PASSWORD.into() }
}

#[tokio::test]
async fn whatever_is_answered_to_one_credential_the_next_is_tried() {
    let script = by_user().await;
    for status in [400, 401, 403, 404, 429, 500, 503] {
        let pulled = Node::new().puller.pull_telling(&script.image(), &[user(status), right()], &()).await;
        assert_eq!(pulled.unwrap().credential, Some(1), "{status}");
    }
}

#[tokio::test]
async fn what_was_answered_to_each_credential_is_told_once() {
    let script = by_user().await;
    for (statuses, told, retry) in [
        (&[401, 404, 401][..], &["(401)", "(404)"][..], Retry::Later(None)),
        (&[429, 401], &["(429)", "(401)"], Retry::Later(Some(Duration::from_secs(3600)))),
        (&[403, 403], &["(403)"], Retry::Later(None)),
    ] {
        let credentials: Vec<Credential> = statuses.iter().copied().map(user).collect();
        let error = Node::new().puller.pull(&script.image(), &credentials, &()).await.unwrap_err();
        assert_eq!(error.retry(), retry, "{error}");
        let text = error.cause.to_string();
        let said: Vec<&str> = text.split("; with another credential: ").collect();
        assert_eq!(said.len(), told.len(), "{text}");
        assert!(said.iter().zip(told).all(|(said, told)| said.contains(told)), "{text}");
    }
}

#[tokio::test]
async fn an_identity_token_that_ended_lets_the_next_credential_have_its_turn() {
    let served = Documents::of(MODULE);
    let script = Script::start(move |request| match request.path() {
        "/token" if request.body.ends_with(b"refresh_token=ended") => {
            Reply::status(400, r#"{"error":"invalid_grant"}"#)
        }
        "/token" => Reply::ok(r#"{"access_token":"fresh"}"#),
        _ if request.header("authorization") == Some("Bearer fresh") => served.answer(request),
        _ => {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
            Reply::status(401, "").header("WWW-Authenticate", realm)
        }
    });
    let script = script.await;
    let tokens = ["ended", "good"].map(|token| Credential::Identity(token.to_owned()));
    let pulled = Node::new().puller.pull_telling(&script.image(), &tokens, &()).await.unwrap();
    assert_eq!(pulled.credential, Some(1));
    let error = Node::new().puller.pull(&script.image(), &tokens[..1], &()).await.unwrap_err();
    assert!(error.to_string().contains("invalid_grant"), "{error}");
}

#[tokio::test]
async fn a_registry_without_tls_may_have_a_token_service_with_it() {
    let service = Registry::with_tls();
    // It gives no tokens, and says so: it was reached, and trusted.
    let realm = format!("https://{}/token", service.address());
    let challenge = format!("Bearer realm=\"{realm}\"");
    let script = Script::start(move |_| Reply::status(401, "").header("WWW-Authenticate", challenge.clone())).await;
    let config = RegistryConfig { authorities: service.config().authorities, ..RegistryConfig::default() };
    let error = Node::trusting(config).puller.pull(&script.image(), &[right()], &()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("its token service {realm} not found (404)")), "{error}");
}

const IDENTITY: &str = "identity-of-samara";

/// Gives ES256 tokens to who knows the password, and to others those to pull from `public/`, or for nothing.
pub(crate) struct TokenService {
    pub(crate) script: Script,
    pub(crate) jwks: String,
}

impl TokenService {
    pub(crate) async fn start() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let public = key.public_key().as_ref();
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "test",
            "x": URL_SAFE_NO_PAD.encode(&public[1..33]), "y": URL_SAFE_NO_PAD.encode(&public[33..65]),
        }]});
        let key = Arc::new(key);
        let script = Script::start(move |request| answer(&key, request)).await;
        Self { script, jwks: jwks.to_string() }
    }

    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.script.address())
    }
}

fn answer(key: &EcdsaKeyPair, request: &Request) -> Reply {
    let known = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let body = String::from_utf8_lossy(&request.body);
    let refresh = body.split('&').find_map(|pair| pair.strip_prefix("refresh_token="));
    let query = if request.method == "POST" { body.as_ref() } else { &request.target };
    let shown = match refresh {
        Some(IDENTITY) if body.starts_with("grant_type=refresh_token&") => Some(known.as_str()),
        Some(_) => Some("wrong"),
        None => request.header("authorization"),
    };
    let scope = query.split(['?', '&']).find_map(|pair| pair.strip_prefix("scope=")).unwrap_or("");
    let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    let parts: Vec<&str> = scope.splitn(3, ':').collect();
    let access = match shown {
        Some(header) if header == known => {
            let actions: Vec<&str> = parts.get(2).map_or(vec![], |actions| actions.split(',').collect());
            json!([{"type": "repository", "name": parts.get(1), "actions": actions}])
        }
        None if parts.get(1).is_some_and(|name| name.starts_with("public/")) => {
            json!([{"type": "repository", "name": parts[1], "actions": ["pull"]}])
        }
        Some(_) => return Reply::status(401, r#"{"details":"incorrect username or password (401)"}"#),
        None => json!([]),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let header = json!({"typ": "JWT", "alg": "ES256", "kid": "test"});
    let claims = json!({"iss": "test", "sub": "user", "aud": "registry", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1", "access": access});
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    Reply::ok(json!({"token": token, "expires_in": 300}).to_string()).header("Content-Type", "application/json")
}
