//! One place where a repository can be had, and how a request gets there: headers, redirects, time.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{sleep, timeout};

use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::session::Shared;
use super::{RegistryConfig, RegistryFailure, answer, redirect};

/// An endpoint, and the client that speaks to it.
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    pub(super) client: Client,
}

/// A request that can be sent more than once.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

impl Ask {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None }
    }
}

/// What an answer asked for that was not there.
pub(super) enum Answer {
    Given(Response),
    /// The registry wants to know who is there, and says how.
    Challenged(Response, Challenge),
}

impl Place {
    /// Sends a request, follows redirects, and waits a little where the registry asks for that.
    pub(super) async fn send(
        &self,
        shared: &Shared,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryFailure> {
        let mut tried = 0;
        loop {
            let (response, at_home) = self.follow(shared, ask, authorization).await?;
            if let Some(pause) = answer::pause(&response, tried) {
                tried += 1;
                sleep(pause).await;
                continue;
            }
            if response.status() != StatusCode::UNAUTHORIZED || !at_home {
                return Ok(Answer::Given(response));
            }
            let headers = response.headers().get_all(WWW_AUTHENTICATE);
            let challenge = Challenge::choose(headers.iter().filter_map(|header| header.to_str().ok()));
            return Ok(match challenge {
                Some(challenge) => Answer::Challenged(response, challenge),
                None => Answer::Given(response),
            });
        }
    }

    /// The last answer, and whether it is this place's own.
    async fn follow(
        &self,
        shared: &Shared,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, bool), RegistryFailure> {
        let mut url = ask.url.clone();
        for _ in 0..=redirect::MOST {
            let at_home = self.endpoint.is_same_place(&url);
            let client = match at_home {
                true => self.client.clone(),
                false => shared.clients.for_elsewhere(&shared.config, &self.endpoint, &url)?,
            };
            let request = || {
                let mut request = client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
                if let Some(body) = &ask.body {
                    request = request.body(body.clone());
                }
                self.with_own(&url, request, authorization)
            };
            let response = match in_time(&shared.config, request()).await {
                // The other end had closed the connection when we used it again.
                Err(RegistryFailure::BrokeOff(_)) if ask.method.is_safe() => in_time(&shared.config, request()).await?,
                answer => answer?,
            };
            if ask.body.is_some() {
                // What is sent is for this place.
                return Ok((response, at_home));
            }
            let location = response.headers().get(LOCATION).and_then(|header| header.to_str().ok());
            match redirect::next(response.status(), location, &url)? {
                None => return Ok((response, at_home)),
                Some(next) => url = next,
            }
        }
        Err(RegistryFailure::Unexpected("it redirects too often".to_owned()))
    }

    /// Adds what is for this place, and not for wherever it sends us.
    pub(super) fn with_own(
        &self,
        url: &Url,
        request: RequestBuilder,
        authorization: Option<&HeaderValue>,
    ) -> RequestBuilder {
        if !self.endpoint.is_same_place(url) {
            return request;
        }
        // In place of what the configuration has there, if it is what the registry asked for.
        let mut headers = self.endpoint.headers.clone();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request.headers(headers)
    }
}

/// The head of an answer, or a failure if none comes.
pub(super) async fn in_time(config: &RegistryConfig, request: RequestBuilder) -> Result<Response, RegistryFailure> {
    let longest = config.connect_timeout.saturating_add(config.read_timeout);
    match timeout(longest, request.send()).await {
        Ok(answer) => answer.map_err(RegistryFailure::from_request),
        Err(_) => Err(no_answer(longest)),
    }
}

pub(super) fn no_answer(time: Duration) -> RegistryFailure {
    RegistryFailure::Timeout(format!("nothing came for {} s", time.as_secs_f32()))
}
