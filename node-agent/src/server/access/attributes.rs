//! What a request asks for, in the authorizer's terms: a table over method and path.

use http::Method;

/// One of the subresources must be granted; they are asked for in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `create`, ...; empty for a method that has no verb.
    pub verb: &'static str,
    /// Of `nodes/<our name>`. The finer one first, then the one that granted it before there were finer ones.
    pub subresources: Vec<&'static str>,
    /// The request's path.
    pub path: String,
}

/// Paths with a subresource of their own beside `proxy` (KEP-2862, `KubeletFineGrainedAuthz`).
const FINE: [(&str, &str); 4] =
    [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")];
/// Paths with a subresource instead of `proxy`.
const OWN: [(&str, &str); 6] = [
    ("/stats", "stats"),
    ("/metrics", "metrics"),
    ("/logs", "log"),
    ("/checkpoint", "checkpoint"),
    ("/statusz", "statusz"),
    ("/flagz", "configz"),
];

/// As the kubelet's `GetRequestAttributes`.
pub fn attributes(method: &Method, path: &str) -> Attributes {
    let verb = match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(base, _)| is_below(path, base)).map(|(_, subresource)| *subresource)
    };
    let fine = find(&FINE);
    let own = find(&OWN).unwrap_or("proxy");
    Attributes { verb, subresources: fine.into_iter().chain([own]).collect(), path: path.to_owned() }
}

fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_asks_for_what_the_kubelet_asks_for() {
        let table: [(&str, &[&str]); 18] = [
            ("/pods", &["pods", "proxy"]),
            ("/pods/", &["pods", "proxy"]),
            ("/podsomething", &["proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/flagz", &["configz"]),
            ("/stats/summary", &["stats"]),
            ("/metrics", &["metrics"]),
            ("/metrics/resource", &["metrics"]),
            ("/metricsfoo", &["proxy"]),
            ("/logs/", &["log"]),
            ("/checkpoint/a/b/c", &["checkpoint"]),
            ("/containerLogs/ns/pod/container", &["proxy"]),
            ("/exec/ns/pod/container", &["proxy"]),
            ("/", &["proxy"]),
            ("", &["proxy"]),
        ];
        for (path, expected) in table {
            assert_eq!(attributes(&Method::GET, path).subresources, expected, "{path}");
        }
    }

    #[test]
    fn the_verb_is_the_method() {
        let table = [
            ("GET", "get"),
            ("POST", "create"),
            ("PUT", "update"),
            ("PATCH", "patch"),
            ("DELETE", "delete"),
            ("HEAD", ""),
            ("BREW", ""),
        ];
        for (method, expected) in table {
            assert_eq!(
                attributes(&Method::from_bytes(method.as_bytes()).expect("a method"), "/pods").verb,
                expected,
                "{method}"
            );
        }
    }
}
