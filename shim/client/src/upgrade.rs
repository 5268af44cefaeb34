//! The one call that the task API has no word for: a front becomes another binary while its containers run.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use protobuf::Message as _;
use protobuf::well_known_types::wrappers::StringValue;

use crate::client::Shim;
use crate::error::ShimError;

/// Our own service, beside containerd's.
pub const SERVICE: &str = "samara.shim.v1.Front";
/// Its method. Takes a `google.protobuf.StringValue`, the absolute path of the binary; answers only to refuse.
pub const UPGRADE: &str = "Upgrade";

/// The front lets calls in flight end, then starts anew.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Shim {
    /// Whether the front runs this very file, as the kernel knows it: one of the same name that has replaced it is another.
    pub async fn runs(&self, exe: &Path) -> io::Result<bool> {
        let peer = tokio::net::UnixStream::connect(self.socket()).await?.peer_cred()?;
        // An upgrade keeps the process, and who listens.
        let pid = peer.pid().ok_or_else(|| io::Error::other("the front's process is not known"))?;
        let (its, ours) = (fs::metadata(format!("/proc/{pid}/exe"))?, fs::metadata(exe)?);
        Ok((its.dev(), its.ino()) == (ours.dev(), ours.ino()))
    }

    /// Lets the front become the shim at `exe` and gives a connection to it once it answers. Containers and their output
    /// notice nothing; other connections end, and their calls fail with [`ShimError::Unavailable`].
    ///
    /// Refused, with nothing changed: [`ShimError::InvalidArgument`] if `exe` is no shim,
    /// [`ShimError::FailedPrecondition`] for a front that containerd drives, [`ShimError::Other`] if it cannot be done.
    pub async fn upgrade(&self, exe: &Path) -> Result<Self, ShimError> {
        let path = exe.display().to_string();
        let request = StringValue { value: path.clone(), ..StringValue::default() };
        let request = ttrpc::Request {
            service: SERVICE.into(),
            method: UPGRADE.into(),
            timeout_nano: i64::try_from(TIMEOUT.as_nanos()).unwrap_or(i64::MAX),
            // Plain data in memory: writing it cannot fail.
            payload: request.write_to_bytes().unwrap_or_default(),
            ..ttrpc::Request::default()
        };
        match self.connection().request(request).await.map_err(|error| ShimError::of("upgrade", &path, error)) {
            // The connection ends with the old front.
            Ok(_) | Err(ShimError::Unavailable { .. }) => {}
            Err(refused) => return Err(refused),
        }
        let next = Self::connect(self.socket()).await?;
        if next.answers().await {
            return Ok(next);
        }
        let message = "the next front does not answer".into();
        Err(ShimError::Unavailable { operation: "upgrade", id: path, message })
    }
}
