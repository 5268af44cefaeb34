//! Fetching one blob: bounded, checked, and taken up again where it broke off.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::resolve::within;
use super::source::Source;
use super::{Progress, ProgressEvent, PullCause, Puller};
use crate::format::{Descriptor, Refusal, WasmKind};
use crate::media_type::LayerKind;
use crate::registry::{Giver, RegistryError, RegistryFailure, Session};
use crate::store::BlobWriter;

const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Looks at a blob's first bytes, so that what is refused is not fetched.
pub(super) type Check<'a> = dyn Fn(&[u8]) -> Result<(), Refusal> + Sync + 'a;

impl Puller {
    /// Fetches a blob into the store, unless it is there.
    pub(super) async fn fetch(
        &self,
        source: &Source<'_>,
        blob: &Descriptor,
        check: &Check<'_>,
        progress: &dyn Progress,
    ) -> Result<(), PullCause> {
        match LayerKind::of(&blob.media_type) {
            LayerKind::Wasm => within("module", blob.size, self.config.largest_module)?,
            LayerKind::Tar | LayerKind::Other => within("layer", blob.size, self.config.largest_layer)?,
        }
        let _claim = self.store.claim_blob(&blob.digest).await;
        if let Some((start, actual)) = self.store.blob_start(&blob.digest, WasmKind::HEADER)? {
            // It came as something else: the same rules hold for it as for what is fetched.
            check(&start)?;
            let (digest, expected) = (blob.digest.clone(), blob.size);
            return if actual == expected { Ok(()) } else { Err(PullCause::Size { digest, expected, actual }) };
        }
        let session = match source {
            Source::Registry(session) => session,
            Source::Layout(layout) => return self.copy_blob(layout, blob, check).await,
        };
        loop {
            let mut giver = None;
            let Err(cause) = self.fetch_from(session, blob, check, &mut giver, progress).await else { return Ok(()) };
            let others = !matches!(cause, PullCause::Store(_)) && giver.is_some_and(|giver| session.avoid(giver));
            if !others {
                return Err(cause);
            }
            tracing::info!(digest = %blob.digest, %cause, "a mirror's content is of no use");
        }
    }

    /// From the first place that gives it, with as many connections as it takes.
    async fn fetch_from(
        &self,
        session: &Session,
        blob: &Descriptor,
        check: &Check<'_>,
        giver: &mut Option<Giver>,
        progress: &dyn Progress,
    ) -> Result<(), PullCause> {
        let mut transfer = Transfer { blob, check, start: Vec::new(), writer: self.store.write_blob(&blob.digest)? };
        let mut resumes = 0;
        let mut pause = FIRST_PAUSE;
        while !transfer.is_complete() {
            let Err(cause) = self.copy(session, &mut transfer, giver, progress).await else { continue };
            if resumes >= self.config.resumes || !breaks_off(&cause) {
                return Err(cause);
            }
            resumes += 1;
            tracing::debug!(digest = %blob.digest, %cause, fetched = transfer.writer.written(), "download is taken up again");
            sleep(pause).await;
            pause *= 2;
        }
        (transfer.check)(&transfer.start)?;
        Ok(transfer.writer.commit().await?)
    }

    /// One connection's worth.
    async fn copy(
        &self,
        session: &Session,
        transfer: &mut Transfer<'_>,
        giver: &mut Option<Giver>,
        progress: &dyn Progress,
    ) -> Result<(), PullCause> {
        let blob = transfer.blob;
        let mut body = session.blob(&blob.digest, transfer.writer.written()).await?;
        *giver = Some(body.from);
        if body.offset != transfer.writer.written() {
            // The registry knows no ranges: from the beginning.
            transfer.writer = self.store.write_blob(&blob.digest)?;
        }
        let (least, window) = self.config.slowest;
        let (mut begun, mut at_begin) = (Instant::now(), transfer.writer.written());
        let stalled = |text: &str| session.failed(RegistryFailure::Timeout(format!("blob {}: {text}", blob.digest)));
        loop {
            let fetched = transfer.writer.written();
            progress.report(ProgressEvent::Fetching { digest: &blob.digest, size: blob.size, fetched });
            let next = timeout(window, body.bytes.next()).await.map_err(|_| stalled("no bytes"))?;
            let Some(piece) = next else { break };
            transfer.take(piece.map_err(|failure| session.failed(failure))?).await?;
            if begun.elapsed() >= window {
                if transfer.writer.written() - at_begin < least {
                    return Err(stalled("too slow").into());
                }
                (begun, at_begin) = (Instant::now(), transfer.writer.written());
            }
        }
        match transfer.is_complete() {
            true => Ok(()),
            false => {
                let text =
                    format!("blob {} ended after {} of {} bytes", blob.digest, transfer.writer.written(), blob.size);
                Err(session.failed(RegistryFailure::BrokeOff(text)).into())
            }
        }
    }
}

/// A blob on its way.
struct Transfer<'a> {
    blob: &'a Descriptor,
    check: &'a Check<'a>,
    /// The first bytes, until there are enough to be looked at.
    start: Vec<u8>,
    writer: BlobWriter,
}

impl Transfer<'_> {
    fn is_complete(&self) -> bool {
        self.writer.written() == self.blob.size
    }

    async fn take(&mut self, piece: bytes::Bytes) -> Result<(), PullCause> {
        let written = self.writer.written();
        let after = written + piece.len() as u64;
        if after > self.blob.size {
            return Err(PullCause::Size { digest: self.blob.digest.clone(), expected: self.blob.size, actual: after });
        }
        if written < WasmKind::HEADER as u64 {
            self.start.truncate(written as usize);
            self.start.extend(piece.iter().take(WasmKind::HEADER - written as usize));
            if self.start.len() == WasmKind::HEADER {
                (self.check)(&self.start)?;
            }
        }
        Ok(self.writer.write(piece).await?)
    }
}

/// Whether another connection may bring the rest.
fn breaks_off(cause: &PullCause) -> bool {
    matches!(
        cause,
        PullCause::Registry(RegistryError {
            failure: RegistryFailure::BrokeOff(_)
                | RegistryFailure::Timeout(_)
                | RegistryFailure::Unreachable(_)
                | RegistryFailure::Server { .. },
            ..
        })
    )
}
