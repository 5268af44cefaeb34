//! `WWW-Authenticate`: how a registry wants to be shown who is there (RFC 9110 section 11.6.1).

use std::collections::BTreeMap;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a service.
    Bearer {
        /// Where the service is.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// Rights that the request would need, separated by spaces.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first challenge that can be met, tokens before passwords. Unknown schemes and broken texts give none.
    pub(super) fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for (scheme, mut parameters) in headers.into_iter().flat_map(parse) {
            match scheme.as_str() {
                "bearer" => {
                    if let Some(realm) = parameters.remove("realm") {
                        let (service, scope) = (parameters.remove("service"), parameters.remove("scope"));
                        return Some(Self::Bearer { realm, service, scope });
                    }
                }
                "basic" => basic = Some(Self::Basic),
                _ => {}
            }
        }
        basic
    }
}

/// Schemes with their parameters, names in lower case.
fn parse(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut challenges: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = parse_value(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = challenges.last_mut() {
                    parameters.insert(word.to_lowercase(), value);
                }
                rest = after;
            }
            None => {
                if !word.is_empty() {
                    challenges.push((word.to_lowercase(), BTreeMap::new()));
                }
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    challenges
}

/// A quoted text or a bare word, and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((position, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned), scope: None })
    }

    fn scoped(realm: &str, service: &str, scope: &str) -> Option<Challenge> {
        let [realm, service, scope] = [realm, service, scope].map(str::to_owned);
        Some(Challenge::Bearer { realm, service: Some(service), scope: Some(scope) })
    }

    #[test]
    fn what_registries_send_is_understood() {
        let cases: [(&[&str], Option<Challenge>); 9] = [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#,
                ],
                scoped("https://auth.docker.io/token", "registry.docker.io", "repository:a:pull,push"),
            ),
            (&[r#"bearer realm = "x" , service=y"#], bearer("x", Some("y"))),
            (&[r#"Basic realm="a, b=c""#], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (&[r#"Basic realm="r", Bearer realm="x""#], bearer("x", None)),
            (&[r#"Basic realm="r""#, r#"Bearer realm="x""#], bearer("x", None)),
            (&[r#"Negotiate, Bearer realm="a\"b""#], bearer("a\"b", None)),
            (&["Bearer service=only"], None),
            (&["", "Digest realm=\"x\"", "=,=\""], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(Challenge::choose(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_loop(text in "\\PC{0,60}") {
            let _ = Challenge::choose([text.as_str()]);
        }

        #[test]
        fn a_quoted_realm_comes_out_as_it_went_in(realm in "[ -~]{0,30}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(Challenge::choose([format!("Bearer realm=\"{quoted}\", service=s").as_str()]), bearer(&realm, Some("s")));
        }
    }
}
