//! May it?

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use super::super::config::Authorization;
use super::memory::Memory;
use super::{Attributes, User};

/// The API server could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("reviewing access to nodes/{subresource}")]
pub(super) struct ReviewError {
    subresource: &'static str,
    source: kube::Error,
}

pub(super) struct Authorizer {
    mode: Authorization,
    reviews: Api<SubjectAccessReview>,
    known: Memory<Question, bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: User,
    verb: &'static str,
    subresource: &'static str,
}

impl Authorizer {
    pub(super) fn new(mode: Authorization, client: Client) -> Self {
        Self { mode, reviews: Api::all(client), known: Memory::new() }
    }

    /// Whether one of the subresources is granted.
    pub(super) async fn authorize(
        &self,
        user: &User,
        attributes: &Attributes,
        node_name: &str,
    ) -> Result<bool, ReviewError> {
        if self.mode == Authorization::AlwaysAllow {
            return Ok(true);
        }
        for subresource in &attributes.subresources {
            let question = Question { user: user.clone(), verb: attributes.verb, subresource };
            if self.granted(question, node_name).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn granted(&self, question: Question, node_name: &str) -> Result<bool, ReviewError> {
        let Authorization::Webhook { allowed_ttl, denied_ttl } = self.mode else {
            return Ok(true);
        };
        if let Some(known) = self.known.get(&question, Instant::now()) {
            return Ok(known);
        }
        let review = SubjectAccessReview { spec: spec(&question, node_name), ..SubjectAccessReview::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let subresource = question.subresource;
        let status = answer.map_err(|source| ReviewError { subresource, source })?.status.unwrap_or_default();
        let granted = status.allowed && status.denied != Some(true);
        let ttl = if granted { allowed_ttl } else { denied_ttl };
        self.known.keep(question, granted, ttl, Instant::now());
        Ok(granted)
    }
}

fn spec(question: &Question, node_name: &str) -> SubjectAccessReviewSpec {
    let Question { user, verb, subresource } = question;
    SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
        resource_attributes: Some(ResourceAttributes {
            verb: Some((*verb).to_owned()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some((*subresource).to_owned()),
            name: Some(node_name.to_owned()),
            ..ResourceAttributes::default()
        }),
        non_resource_attributes: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;
    use serde_json::json;

    use super::super::{attributes, testing};
    use super::*;

    fn user(name: &str) -> User {
        User { name: name.into(), ..User::default() }
    }

    /// An API server that grants `allowed` of our node to anybody.
    fn granting(allowed: &'static str) -> (Authorizer, impl Fn() -> usize) {
        let (client, asked) = testing::answering(move |_path, body| {
            let wanted = &body["spec"]["resourceAttributes"];
            assert_eq!((&wanted["resource"], &wanted["name"]), (&json!("nodes"), &json!("node-1")));
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {},
                "status": {"allowed": wanted["subresource"] == allowed}})
        });
        (Authorizer::new(Authorization::default(), client), asked)
    }

    #[tokio::test]
    async fn the_finer_right_or_the_older_one_is_enough() {
        for (granted, path, expected) in [
            ("pods", "/pods", true),
            ("proxy", "/pods", true),
            ("metrics", "/pods", false),
            ("metrics", "/metrics/resource", true),
            ("proxy", "/metrics", false),
        ] {
            let (authorizer, _) = granting(granted);
            let allowed =
                authorizer.authorize(&user("u"), &attributes(&Method::GET, path), "node-1").await.expect("answered");
            assert_eq!(allowed, expected, "{granted} for {path}");
        }
    }

    #[tokio::test]
    async fn yes_is_remembered_for_five_minutes_and_no_for_thirty_seconds() {
        tokio::time::pause();
        for (path, ttl) in [("/metrics", 300), ("/stats/summary", 30)] {
            let (authorizer, asked) = granting("metrics");
            let ask = async || {
                authorizer.authorize(&user("u"), &attributes(&Method::GET, path), "node-1").await.expect("answered")
            };
            ask().await;
            tokio::time::advance(Duration::from_secs(ttl - 1)).await;
            ask().await;
            assert_eq!(asked(), 1, "{path}");
            tokio::time::advance(Duration::from_secs(1)).await;
            ask().await;
            assert_eq!(asked(), 2, "{path}");
        }
    }

    #[tokio::test]
    async fn one_users_answer_is_not_anothers() {
        let (authorizer, asked) = granting("metrics");
        for name in ["a", "b"] {
            authorizer.authorize(&user(name), &attributes(&Method::GET, "/metrics"), "node-1").await.expect("answered");
        }
        assert_eq!(asked(), 2);
    }

    #[tokio::test]
    async fn an_api_server_that_fails_is_an_error_and_not_remembered() {
        let authorizer = Authorizer::new(Authorization::default(), testing::failing());
        for _ in 0..2 {
            let error = authorizer.authorize(&user("u"), &attributes(&Method::GET, "/metrics"), "node-1").await;
            assert!(error.is_err());
        }
    }
}
