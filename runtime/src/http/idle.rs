//! How long nothing has happened on an http/2 connection. (Those of http/1 have a time limit of their own: one request at
//! a time, and writes that stand still.)

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// The streams of a connection.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Mutex<Activity>>);

#[derive(Debug)]
struct Activity {
    next: u64,
    /// Each stream, and since when its client has had a piece of the answer to take. `None`: the guest's turn.
    open: BTreeMap<u64, Option<Instant>>,
    /// When the last one ended.
    last: Instant,
}

impl Activity {
    /// Since when nothing happens for which the guest is not to blame: no stream is open, or a client takes nothing.
    fn still_since(&self) -> Option<Instant> {
        if self.open.is_empty() { Some(self.last) } else { self.open.values().filter_map(|since| *since).min() }
    }
}

impl Streams {
    pub(super) fn none() -> Self {
        Self(Arc::new(Mutex::new(Activity { next: 0, open: BTreeMap::new(), last: Instant::now() })))
    }

    /// One begins.
    pub(super) fn begin(&self) -> Stream {
        let mut activity = self.lock();
        let id = activity.next;
        activity.next += 1;
        activity.open.insert(id, None);
        Stream { id, streams: self.clone() }
    }

    /// Waits until nothing has happened for so long.
    pub(super) async fn still_for(&self, patience: Duration) {
        loop {
            let still_since = self.lock().still_since();
            match still_since.map(|since| since + patience) {
                Some(over) if over <= Instant::now() => return,
                Some(over) => tokio::time::sleep_until(over).await,
                None => tokio::time::sleep(patience).await,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Open as long as this lives.
#[derive(Debug)]
pub(super) struct Stream {
    id: u64,
    streams: Streams,
}

impl Stream {
    fn waits_for_client(&self, since: Option<Instant>) {
        if let Some(open) = self.streams.lock().open.get_mut(&self.id) {
            *open = since;
        }
    }

    /// Lets the stream be open until the body is sent.
    pub(super) fn until_sent<B>(self, body: B) -> Sent<B> {
        Sent { body, stream: self }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut activity = self.streams.lock();
        activity.open.remove(&self.id);
        activity.last = Instant::now();
    }
}

/// A body of a stream. It is asked for the next piece when the client has room for it.
pub(super) struct Sent<B> {
    body: B,
    stream: Stream,
}

impl<B: Body + Unpin> Body for Sent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.stream.waits_for_client(None);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.stream.waits_for_client(Some(Instant::now()));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};

    const PATIENCE: Duration = Duration::from_secs(75);

    /// Whether it is still for that long when `wait` has passed, and not before.
    async fn is_still_after(streams: &Streams, wait: Duration) -> bool {
        let almost = wait.checked_sub(Duration::from_millis(1)).expect("some time");
        let early = tokio::time::timeout(almost, streams.still_for(PATIENCE)).await;
        let late = tokio::time::timeout(Duration::from_millis(2), streams.still_for(PATIENCE)).await;
        early.is_err() && late.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_stream_is_still_from_its_beginning() {
        assert!(is_still_after(&Streams::none(), PATIENCE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_thinks_is_waited_for_and_the_time_runs_from_the_end_of_its_stream() {
        let streams = Streams::none();
        let stream = streams.begin();
        assert!(tokio::time::timeout(PATIENCE * 10, streams.still_for(PATIENCE)).await.is_err());
        drop(stream);
        assert!(is_still_after(&streams, PATIENCE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_waited_for_only_so_long_whatever_the_others_do() {
        let streams = Streams::none();
        let mut stalled = streams.begin().until_sent(Full::new(Bytes::from_static(b"piece")));
        stalled.frame().await.expect("a frame").expect("a piece");
        let _other = streams.begin();
        assert!(is_still_after(&streams, PATIENCE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_pieces_slowly_is_served_on() {
        let streams = Streams::none();
        let pieces =
            futures::stream::iter((0..10).map(|_| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::new()))));
        let mut body = streams.begin().until_sent(http_body_util::StreamBody::new(pieces));
        for _ in 0..9 {
            body.frame().await.expect("a frame").expect("a piece");
            assert!(tokio::time::timeout(PATIENCE / 2, streams.still_for(PATIENCE)).await.is_err());
        }
    }
}
