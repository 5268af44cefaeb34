//! Which images a credential is for: `*.example.com:5000/team`.

use crate::reference::Reference;

/// Names under which Docker Hub stands in such files.
const DOCKER_HUB: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// A registry, with stars within the parts of its name, and perhaps the beginning of a path.
///
/// The kubelet takes the path for the beginning of a text; here it ends where a part of the path ends, so that what is for `team` is
/// never shown for `teamwork`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    host: Vec<String>,
    port: Option<String>,
    path: String,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        let text = text.trim_start_matches("https://").trim_start_matches("http://");
        let (place, path) = text.split_once('/').unwrap_or((text, ""));
        let path = path.trim_matches('/');
        // Docker's own paths of API versions are no repositories.
        let (version, rest) = path.split_once('/').unwrap_or((path, ""));
        let path = if matches!(version, "v1" | "v2") { rest } else { path };
        let text = if path.is_empty() { place.to_owned() } else { format!("{place}/{path}") };
        let host = place;
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !port.contains(']') => (host, Some(port.to_owned())),
            Some(_) | None => (host, None),
        };
        Self { text, host: host.split('.').map(str::to_lowercase).collect(), port, path: path.to_owned() }
    }

    /// As written, without the scheme and the version of the API.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn fits(&self, image: &Reference) -> bool {
        let wanted = Self::parse(image.registry());
        let hub = |host: &[String]| DOCKER_HUB.contains(&host.join(".").as_str());
        let same_host = hub(&self.host) && hub(&wanted.host)
            || self.host.len() == wanted.host.len()
                && self.host.iter().zip(&wanted.host).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()));
        let path = image.repository();
        let same_path = path
            .strip_prefix(self.path.as_str())
            .is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        same_host && self.port == wanted.port && same_path
    }
}

/// `*` is any text and `?` any letter, within one part of a name. Takes time in proportion to both, whatever the stars.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == text[place] => {
                at += 1;
                place += 1;
            }
            Some(_) | None => match star {
                // The last star takes one letter more.
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, place) = (after + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_part() {
        for (pattern, text, want) in [
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "abc", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
        assert!(!glob("*a".repeat(5000).as_bytes(), "a".repeat(4999).as_bytes()));
    }
}
