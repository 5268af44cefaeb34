//! Sending content to a registry.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::watch;
use tokio::time::timeout;

use super::place::{Ask, Place, no_answer};
use super::session::Session;
use super::{RegistryError, RegistryFailure, answer};
use crate::digest::Digest;

/// A registry may take its time with a large blob once it is whole: it hashes it, or puts it elsewhere.
const TO_STORE: Duration = Duration::from_secs(300);

impl Session {
    /// Whether the repository has a blob already.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let asked = async {
            let place = self.target();
            let ask = Ask::new(Method::HEAD, place.endpoint.url(&self.reference, &format!("blobs/{digest}"))?);
            let response = self.send(place, &ask).await?;
            match response.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(answer::failure(response).await),
            }
        };
        asked.await.map_err(|failure| self.failed(failure))
    }

    /// Sends a blob of known length, and tells how many bytes of it were taken.
    pub(crate) async fn push_blob(
        &self,
        digest: &Digest,
        size: u64,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let pushed = async {
            let place = self.target();
            let mut ask = Ask::new(Method::POST, place.endpoint.url(&self.reference, "blobs/uploads/")?);
            ask.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            let response = self.send(place, &ask).await?;
            if response.status() != StatusCode::ACCEPTED {
                return Err(answer::failure(response).await);
            }
            let mut url = location(&response)?;
            url.query_pairs_mut().append_pair("digest", digest.as_str());
            self.put(place, url, size, bytes, tell).await
        };
        pushed.await.map_err(|failure| self.failed(failure))
    }

    /// Sends a manifest under the session's tag, or its digest if it has none.
    pub(crate) async fn push_manifest(&self, bytes: Bytes, media_type: &str) -> Result<(), RegistryError> {
        let digest = Digest::of(&bytes);
        let name = self.reference.tag().unwrap_or(digest.as_str());
        let pushed = async {
            let place = self.target();
            let url = place.endpoint.url(&self.reference, &format!("manifests/{name}"))?;
            let mut ask = Ask { body: Some(bytes), ..Ask::new(Method::PUT, url) };
            let invalid = |_| RegistryFailure::Configuration(format!("`{media_type}` cannot be a media type"));
            ask.headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).map_err(invalid)?);
            created(self.send(place, &ask).await?).await
        };
        pushed.await.map_err(|failure| self.failed(failure))
    }

    /// A session for pushing has one place.
    fn target(&self) -> &Place {
        &self.places[0].place
    }

    /// Given up when the registry takes no more bytes for too long; how long the whole takes is no matter.
    async fn put(
        &self,
        place: &Place,
        url: Url,
        size: u64,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryFailure> {
        let (taken, mut progress) = watch::channel(0);
        let bytes = bytes.inspect_ok(move |piece| taken.send_modify(|sum| *sum += piece.len() as u64));
        let elsewhere = self.shared.clients.for_elsewhere(&self.shared.config, &place.endpoint, &url)?;
        let client = if place.endpoint.is_same_place(&url) { &place.client } else { &elsewhere };
        let authorization = self.shared.tokens.known(&self.key(place));
        let request = place
            .with_own(&url, client.put(url.clone()), authorization.as_ref())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(Body::wrap_stream(bytes));
        let longest = self.shared.config.read_timeout;
        let stalled = async {
            loop {
                match timeout(longest, progress.changed()).await {
                    Ok(Ok(())) => tell(*progress.borrow_and_update()),
                    // All is sent.
                    Ok(Err(_)) => break tell(size),
                    Err(_) => return no_answer(longest),
                }
            }
            tokio::time::sleep(TO_STORE).await;
            no_answer(TO_STORE)
        };
        tokio::select! {
            answer = request.send() => created(answer.map_err(RegistryFailure::from_request)?).await,
            failure = stalled => Err(failure),
        }
    }
}

fn location(response: &Response) -> Result<Url, RegistryFailure> {
    let location = response.headers().get(LOCATION).and_then(|header| header.to_str().ok());
    let url = location.and_then(|location| response.url().join(location).ok());
    let url = url.filter(|url| url.scheme() == "https" || response.url().scheme() == "http");
    url.ok_or_else(|| RegistryFailure::Unexpected("it does not say where to send the blob".to_owned()))
}

async fn created(response: Response) -> Result<(), RegistryFailure> {
    match response.status() {
        StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
        _ => Err(answer::failure(response).await),
    }
}
