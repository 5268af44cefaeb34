//! `tcpSocket`: something accepts connections.

use std::io;
use std::time::Duration;

use samara_core::probe::ProbeResult;
use tokio::net::TcpStream;

use super::try_once::Tried;

pub(super) async fn probe(host: &str, port: u16, timeout: Duration) -> Tried {
    match connect(host, port, timeout).await {
        Ok(_) => Tried::of(ProbeResult::Success),
        Err(tried) => tried,
    }
}

/// A connection, or what the failure is called.
pub(super) async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, Tried> {
    let address = address(host, port);
    match tokio::time::timeout(timeout, reach(host, port)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Tried::refused(format!("dial tcp {address}: connect: connection refused")))
        }
        Ok(Err(error)) => Err(Tried::failure(format!("dial tcp {address}: connect: {}", bare(&error)))),
        Err(_) => Err(Tried::failure(format!("dial tcp {address}: i/o timeout"))),
    }
}

async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => crate::network::connect((ip, port).into()).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
}

/// `10.0.0.2:80`, `[fd00::2]:80`.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The error's text without its number, in small letters, as Go has it.
fn bare(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_listener_is_a_success_and_its_absence_a_refusal() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe("127.0.0.1", port, SECOND).await, Tried::of(ProbeResult::Success));
        drop(listener);
        let want = Tried::refused(format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
        assert_eq!(probe("127.0.0.1", port, SECOND).await, want);
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_a_failure() {
        let tried = probe("", 1, SECOND).await;
        assert!(matches!(tried.result, ProbeResult::Failure { .. }), "{tried:?}");
        assert!(!tried.refused);
    }
}
