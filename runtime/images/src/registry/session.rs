//! One repository, with one credential, for one purpose, at whichever place has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;

use super::clients::Clients;
use super::place::{Answer, Ask, Place, no_answer};
use super::token::{Key, Tokens};
use super::{Credential, RegistryConfig, RegistryError, RegistryFailure, answer, hosts};
use crate::digest::Digest;
use crate::media_type;
use crate::reference::Reference;

/// What a session is for: it decides the rights that are asked of a token service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Pull,
    Push,
    /// To ask the registry itself, and nobody in its place, whether it takes the credential.
    LogIn,
}

impl Purpose {
    /// Rights to a repository. `None`: to be known is all.
    pub(super) fn actions(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Pull => Some(&["pull"]),
            Self::Push => Some(&["pull", "push"]),
            Self::LogIn => None,
        }
    }
}

/// Begins sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
}

/// What all sessions share: connections and tokens.
pub(super) struct Shared {
    pub(super) config: RegistryConfig,
    pub(super) clients: Clients,
    pub(super) tokens: Tokens,
}

/// One repository, with one credential, for one purpose.
pub(crate) struct Session {
    /// In the order in which they are tried; never empty.
    pub(super) places: Vec<Candidate>,
    pub(super) reference: Reference,
    pub(super) shared: Arc<Shared>,
    credential: Credential,
    purpose: Purpose,
}

/// A place, and whether it has failed us.
pub(super) struct Candidate {
    pub(super) place: Place,
    avoided: AtomicBool,
}

/// A blob's bytes from where the registry begins.
pub(crate) struct BlobBody {
    /// Where in the blob the first byte is: what was asked for, or 0 if the registry knows no ranges.
    pub(crate) offset: u64,
    pub(crate) bytes: BoxStream<'static, Result<Bytes, RegistryFailure>>,
    /// Who gives it.
    pub(crate) from: Giver,
}

/// Who gave something, to be told if it was wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Giver(usize);

impl Sessions {
    pub(crate) fn new(config: RegistryConfig) -> Self {
        Self { shared: Arc::new(Shared { config, clients: Clients::default(), tokens: Tokens::default() }) }
    }

    /// Begins a session; nothing is sent yet.
    pub(crate) fn open(
        &self,
        reference: &Reference,
        credential: &Credential,
        purpose: Purpose,
    ) -> Result<Session, RegistryError> {
        let registry = reference.registry();
        let failed = |failure| RegistryError { registry: registry.to_owned(), failure, mirrors: Vec::new() };
        let shared = &self.shared;
        let mut places = Vec::new();
        for endpoint in hosts::endpoints(&shared.config, registry).map_err(failed)? {
            let wanted = match purpose {
                Purpose::Pull => endpoint.capabilities.pull || endpoint.capabilities.resolve,
                // What is pushed in parts has to go to one place.
                Purpose::Push => endpoint.capabilities.push && places.is_empty(),
                Purpose::LogIn => endpoint.is_origin(),
            };
            if wanted {
                let client = shared.clients.for_endpoint(&shared.config, &endpoint).map_err(failed)?;
                places.push(Candidate { place: Place { endpoint, client }, avoided: AtomicBool::new(false) });
            }
        }
        if places.is_empty() {
            return Err(failed(nobody()));
        }
        let (reference, credential, shared) = (reference.clone(), credential.clone(), Arc::clone(shared));
        Ok(Session { places, reference, shared, credential, purpose })
    }
}

impl Session {
    /// Names the registry in a failure.
    pub(crate) fn failed(&self, failure: RegistryFailure) -> RegistryError {
        RegistryError { registry: self.reference.registry().to_owned(), failure, mirrors: Vec::new() }
    }

    /// Does not ask there again in this session. Whether there is anyone else to ask: those before it were, and gave nothing.
    pub(crate) fn avoid(&self, from: Giver) -> bool {
        self.places[from.0].avoided.store(true, Ordering::Relaxed);
        let mut after = self.places.iter().skip(from.0 + 1);
        after.any(|it| it.place.endpoint.capabilities.pull && !it.avoided.load(Ordering::Relaxed))
    }

    /// Whether the registry itself takes the credential, without asking for anything that is in it.
    pub(crate) async fn greet(&self) -> Result<(), RegistryError> {
        let place = self.places.iter().map(|candidate| &candidate.place).find(|place| place.endpoint.is_origin());
        let greeted = async {
            let place = place.ok_or_else(nobody)?;
            let response = self.send(place, &Ask::new(Method::GET, place.endpoint.base.clone())).await?;
            match response.status() {
                StatusCode::OK => Ok(()),
                _ => Err(answer::failure(response).await),
            }
        };
        greeted.await.map_err(|failure| self.failed(failure))
    }

    /// The digest of what a tag stands for now, or a digest that is there, without its content. `None`: the registry does not say.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Option<Digest>, RegistryError> {
        let rest = &format!("manifests/{name}");
        self.at_each(
            |place| place.endpoint.capabilities.resolve,
            |_, place| async move {
                let response = self.send(place, &self.for_manifest(place, Method::HEAD, rest)?).await?;
                match response.status() {
                    StatusCode::OK => {
                        let header = response.headers().get("docker-content-digest");
                        Ok(header.and_then(|header| header.to_str().ok()).and_then(|text| text.parse().ok()))
                    }
                    _ => Err(answer::failure(response).await),
                }
            },
        )
        .await
    }

    /// A manifest or index by tag or digest, checked against the digest if there is one, with the digest of its bytes.
    pub(crate) async fn manifest(
        &self,
        tag: Option<&str>,
        digest: Option<&Digest>,
        longest: u64,
    ) -> Result<(Bytes, Digest), RegistryError> {
        let rest = &format!("manifests/{}", digest.map(Digest::as_str).or(tag).unwrap_or("latest"));
        let wanted = |place: &'_ Place| match digest {
            Some(_) => place.endpoint.capabilities.pull,
            None => place.endpoint.capabilities.resolve,
        };
        self.at_each(wanted, |_, place| async move {
            let response = self.send(place, &self.for_manifest(place, Method::GET, rest)?).await?;
            let body = self.document(response, longest).await?;
            match digest {
                None => Ok((body.clone(), Digest::of(&body))),
                Some(digest) => checked(body, digest).map(|body| (body, digest.clone())),
            }
        })
        .await
    }

    /// A small blob whole, checked against its digest.
    pub(crate) async fn small_blob(&self, digest: &Digest, longest: u64) -> Result<Bytes, RegistryError> {
        let rest = &format!("blobs/{digest}");
        self.at_each(
            |place| place.endpoint.capabilities.pull,
            |_, place| async move {
                let ask = Ask::new(Method::GET, place.endpoint.url(&self.reference, rest)?);
                let response = self.send(place, &ask).await?;
                checked(self.document(response, longest).await?, digest)
            },
        )
        .await
    }

    /// A blob from an offset on. Not checked: the writer does that.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<BlobBody, RegistryError> {
        let rest = &format!("blobs/{digest}");
        self.at_each(
            |place| place.endpoint.capabilities.pull,
            |from, place| async move {
                let mut ask = Ask::new(Method::GET, place.endpoint.url(&self.reference, rest)?);
                if offset > 0
                    && let Ok(range) = HeaderValue::from_str(&format!("bytes={offset}-"))
                {
                    ask.headers.insert(RANGE, range);
                }
                let response = self.send(place, &ask).await?;
                let offset = match response.status() {
                    StatusCode::OK => 0,
                    StatusCode::PARTIAL_CONTENT if range_start(&response).is_none_or(|start| start == offset) => offset,
                    StatusCode::PARTIAL_CONTENT => {
                        return Err(RegistryFailure::Unexpected("it sent another part than was asked for".to_owned()));
                    }
                    _ => return Err(answer::failure(response).await),
                };
                Ok(BlobBody { offset, bytes: pieces(response, self.shared.config.read_timeout), from })
            },
        )
        .await
    }

    /// Asks one place after the other.
    async fn at_each<'s, T, F>(
        &'s self,
        wanted: impl Fn(&'s Place) -> bool,
        ask: impl Fn(Giver, &'s Place) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryFailure>>,
    {
        let mut failures: Vec<(String, RegistryFailure)> = Vec::new();
        for (position, candidate) in self.places.iter().enumerate() {
            let place = &candidate.place;
            if !wanted(place) || candidate.avoided.load(Ordering::Relaxed) {
                continue;
            }
            match ask(Giver(position), place).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    let last = position + 1 == self.places.len();
                    if !last && failure.is_absence() {
                        candidate.avoided.store(true, Ordering::Relaxed);
                    }
                    failures.push((place.endpoint.name(), failure));
                }
            }
        }
        let (_, failure) = failures.pop().unwrap_or_else(|| (String::new(), nobody()));
        Err(RegistryError { mirrors: failures, ..self.failed(failure) })
    }

    /// Sends a request, and meets the challenge if there is one.
    pub(super) async fn send(&self, place: &Place, ask: &Ask) -> Result<Response, RegistryFailure> {
        let (key, tokens) = (self.key(place), &self.shared.tokens);
        let known = tokens.known(&key);
        let (response, challenge) = match place.send(&self.shared, ask, known.as_ref()).await? {
            Answer::Given(response) => return Ok(response),
            Answer::Challenged(response, challenge) => (response, challenge),
        };
        tokens.forget(&key);
        let Some(obtained) = tokens.obtain(&self.shared, place, key.clone(), challenge).await? else {
            return Ok(response);
        };
        match place.send(&self.shared, ask, Some(&obtained)).await? {
            Answer::Given(response) => Ok(response),
            Answer::Challenged(response, _) => {
                tokens.forget(&key);
                Ok(response)
            }
        }
    }

    /// What is shown at a place: the user's credential at the registry itself, and nothing at a mirror.
    pub(super) fn key(&self, place: &Place) -> Key {
        let credential = match place.endpoint.is_origin() {
            true => self.credential.clone(),
            false => Credential::Anonymous,
        };
        let (base, repository) = (place.endpoint.base.clone(), place.endpoint.repository(&self.reference));
        Key { base, repository, purpose: self.purpose, credential }
    }

    fn for_manifest(&self, place: &Place, method: Method, rest: &str) -> Result<Ask, RegistryFailure> {
        let mut ask = Ask::new(method, place.endpoint.url(&self.reference, rest)?);
        for kind in media_type::MANIFESTS {
            ask.headers.append(ACCEPT, HeaderValue::from_static(kind));
        }
        Ok(ask)
    }

    async fn document(&self, response: Response, longest: u64) -> Result<Bytes, RegistryFailure> {
        match response.status() {
            StatusCode::OK => answer::read(response, longest, &self.shared.config).await,
            _ => Err(answer::failure(response).await),
        }
    }
}

fn nobody() -> RegistryFailure {
    RegistryFailure::Configuration("none of its hosts may be asked for this".to_owned())
}

fn checked(body: Bytes, digest: &Digest) -> Result<Bytes, RegistryFailure> {
    match digest.check(&body) {
        Ok(()) => Ok(body),
        Err(actual) => Err(RegistryFailure::Digest(format!("{actual} and not {digest}"))),
    }
}

/// A body's pieces, each in time.
fn pieces(response: Response, longest: Duration) -> BoxStream<'static, Result<Bytes, RegistryFailure>> {
    stream::try_unfold(response, move |mut response| async move {
        match timeout(longest, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(|piece| (piece, response))),
            Ok(Err(error)) => Err(RegistryFailure::from_request(error)),
            Err(_) => Err(no_answer(longest)),
        }
    })
    .boxed()
}

/// `bytes 100-199/200`
fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
