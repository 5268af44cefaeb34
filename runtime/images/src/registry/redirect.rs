//! Where an answer sends us.

use reqwest::{StatusCode, Url};

use super::RegistryFailure;

/// Registries send blobs' readers to a storage service, and that at most to another of its hosts.
pub(super) const MOST: usize = 5;

/// The address to ask instead, if the answer is a redirect that is to be followed.
///
/// From TLS it is never followed to where there is none: what is fetched is checked, but who fetches it would be seen.
pub(super) fn next(status: StatusCode, location: Option<&str>, asked: &Url) -> Result<Option<Url>, RegistryFailure> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let wrong = |problem: &str| RegistryFailure::Unexpected(format!("a redirect {problem}"));
    let location = location.ok_or_else(|| wrong("to nowhere"))?;
    let url = asked.join(location).map_err(|_| wrong("to what is no address"))?;
    match (asked.scheme(), url.scheme()) {
        ("http", "http") | (_, "https") => Ok(Some(url)),
        ("https", "http") => Err(wrong("away from TLS")),
        _ => Err(wrong("to what is no web address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_unless_they_leave_tls_or_the_web() {
        let cases = [
            (200, Some("/x"), "https://r.test/v2/", Ok(None)),
            (304, None, "https://r.test/v2/", Ok(None)),
            (307, Some("/x"), "https://r.test/v2/", Ok(Some("https://r.test/x"))),
            (302, Some("https://s.test/x?y"), "http://r.test/", Ok(Some("https://s.test/x?y"))),
            (301, Some("//s.test/x"), "http://r.test/", Ok(Some("http://s.test/x"))),
            (308, Some("http://r.test/x"), "https://r.test/", Err("away from TLS")),
            (303, Some("file:///etc/passwd"), "http://r.test/", Err("no web address")),
            (307, Some("http://["), "http://r.test/", Err("no address")),
            (307, None, "http://r.test/", Err("to nowhere")),
        ];
        for (status, location, asked, expected) in cases {
            let next = next(StatusCode::from_u16(status).unwrap(), location, &Url::parse(asked).unwrap());
            match (next, expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_ref().map(Url::as_str), expected, "{location:?}"),
                (Err(failure), Err(words)) => assert!(failure.to_string().contains(words), "{failure}"),
                other => panic!("{location:?}: {other:?}"),
            }
        }
    }
}
