//! Answers: bodies read up to a bound, and statuses that are not the wanted one turned into failures.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::{Detail, RegistryConfig, RegistryFailure};

/// Of an error's text, more is of no use to anyone.
const LONGEST_ERROR: u64 = 16 << 10;
/// Nor is it worth a longer wait.
const ERROR_TIME: Duration = Duration::from_secs(5);
/// A registry that asks for no more than this is waited for, so often. Else the caller is told, and backs off.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const MOST_PAUSES: u32 = 2;

/// Reads a document whole: no longer than `longest`, and in no more than the configured time.
pub(super) async fn read(response: Response, longest: u64, config: &RegistryConfig) -> Result<Bytes, RegistryFailure> {
    let late =
        |_| RegistryFailure::Timeout(format!("its answer took more than {} s", config.document_timeout.as_secs_f32()));
    timeout(config.document_timeout, read_bounded(response, longest)).await.map_err(late)?
}

async fn read_bounded(mut response: Response, longest: u64) -> Result<Bytes, RegistryFailure> {
    let too_long = || RegistryFailure::Unexpected(format!("its answer is longer than {longest} bytes"));
    if response.content_length().is_some_and(|length| length > longest) {
        return Err(too_long());
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(RegistryFailure::from_request)? {
        if (body.len() + piece.len()) as u64 > longest {
            return Err(too_long());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// What an answer means that is not the wanted one.
pub(super) async fn failure(mut response: Response) -> RegistryFailure {
    let (status, retry_after) = (response.status(), retry_after(response.headers(), SystemTime::now()));
    let mut body = Vec::new();
    // The text is a courtesy: what can be had of it is enough.
    let reads = async {
        while let Ok(Some(piece)) = response.chunk().await {
            let left = (LONGEST_ERROR as usize).saturating_sub(body.len());
            body.extend(piece.iter().take(left));
            if body.len() as u64 >= LONGEST_ERROR {
                break;
            }
        }
    };
    let _in_time = timeout(ERROR_TIME, reads).await;
    from_status(status, said(&String::from_utf8_lossy(&body)), retry_after)
}

/// How long to wait before the same is asked again at once.
pub(super) fn pause(response: &Response, tried: u32) -> Option<Duration> {
    let asks = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let pause = retry_after(response.headers(), SystemTime::now()).filter(|_| asks)?;
    (pause <= LONGEST_PAUSE && tried < MOST_PAUSES).then_some(pause)
}

fn from_status(status: StatusCode, detail: Detail, retry_after: Option<Duration>) -> RegistryFailure {
    match status.as_u16() {
        401 => RegistryFailure::Unauthorized(detail),
        403 => RegistryFailure::Denied(detail),
        404 => RegistryFailure::NotFound(detail),
        429 => RegistryFailure::RateLimited { detail, retry_after },
        status @ 500..=599 => RegistryFailure::Server { status, detail, retry_after },
        status => RegistryFailure::Unexpected(format!("status {status}{detail}")),
    }
}

/// Seconds, or a date, or (Docker Hub) seconds since the epoch.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    /// No registry means to say "in thirty years".
    const EPOCH_SECONDS: u64 = 1_000_000_000;
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let at = match text.parse::<u64>() {
        Ok(seconds) if seconds < EPOCH_SECONDS => return Some(Duration::from_secs(seconds)),
        Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
        Err(_) => httpdate::parse_http_date(text).ok()?,
    };
    Some(at.duration_since(now).unwrap_or_default())
}

/// The messages of a registry's error document, or the text as it is.
fn said(body: &str) -> Detail {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        message: String,
    }
    match serde_json::from_str::<Envelope>(body) {
        Ok(envelope) => {
            let messages: Vec<String> = envelope.errors.into_iter().map(|entry| entry.message).collect();
            Detail::new(messages.join("; "))
        }
        Err(_) => Detail::new(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_becomes_one_short_line() {
        assert_eq!(
            said(r#"{"errors":[{"code":"DENIED","message":"no"},{"message":"never"}]}"#).to_string(),
            ": no; never"
        );
        assert_eq!(said("<html>\n\tno\u{7}</html>").to_string(), ": <html> no </html>");
        assert_eq!(said("").to_string(), "");
    }

    #[test]
    fn when_to_come_back_is_read_in_every_way_it_is_said() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let cases = [
            ("17", Some(17)),
            (" 0 ", Some(0)),
            ("1800000060", Some(60)),
            ("1700000000", Some(0)),
            ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60)),
            ("soon", None),
            ("-5", None),
            ("99999999999999999999999", None),
        ];
        for (text, seconds) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
