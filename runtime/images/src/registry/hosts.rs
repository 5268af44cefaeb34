//! Mirrors and settings per registry, in the directories and files which containerd reads: `<dir>/<registry>/hosts.toml`.
//!
//! Looked for in this order: `<host>_<port>_`, `<host>:<port>`, `_default`. The first directory that exists counts.
//! Without a `hosts.toml` in it, or with an empty one, docker's certificates count: `*.crt` are authorities, `*.cert` and `*.key` what we
//! show. Of such pairs there may be one: other than containerd, which lets the registry choose, we have one to show.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use thiserror::Error;

use super::endpoint::{Capabilities, Endpoint, Tls};
use super::{RegistryConfig, RegistryFailure};

/// A `hosts.toml` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostsError {
    /// It does not follow the format.
    #[error("{0}")]
    Format(String),
    /// A host that is none.
    #[error("host `{host}`: {problem}")]
    Host {
        /// As written.
        host: String,
        /// What is wrong.
        problem: String,
    },
}

/// Checks a `hosts.toml` and says which hosts it tries, in order, for images of `registry`.
pub fn parse_hosts(text: &str, registry: &str, directory: &Path) -> Result<Vec<String>, HostsError> {
    let config = RegistryConfig::default();
    let origin = Endpoint::of_registry(&config, registry);
    let origin = origin.map_err(|failure| HostsError::Format(failure.to_string()))?;
    Ok(parse(text, registry, directory, origin, &config)?
        .into_iter()
        .map(|endpoint| endpoint.base.to_string())
        .collect())
}

/// Where images of a registry are had: its mirrors, then itself.
pub(super) fn endpoints(config: &RegistryConfig, registry: &str) -> Result<Vec<Endpoint>, RegistryFailure> {
    let mut origin = Endpoint::of_registry(config, registry)?;
    let Some(root) = &config.hosts_dir else { return Ok(vec![origin]) };
    let Some(directory) = candidates(registry).map(|name| root.join(name)).find(|path| path.is_dir()) else {
        return Ok(vec![origin]);
    };
    let file = directory.join("hosts.toml");
    let wrong = |error: &dyn std::fmt::Display| RegistryFailure::Configuration(format!("{}: {error}", file.display()));
    match read(&file) {
        Ok(text) if !text.is_empty() => {
            parse(&text, registry, &directory, origin, config).map_err(|error| wrong(&error))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(wrong(&error)),
        Ok(_) | Err(_) => {
            let wrong = |error| RegistryFailure::Configuration(format!("{}: {error}", directory.display()));
            origin.tls = dockers(&directory).map_err(wrong)?;
            Ok(vec![origin])
        }
    }
}

/// No more than anyone writes: the file is read for each pull, so that a change counts at once.
fn read(file: &Path) -> io::Result<String> {
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    match fs::File::open(file)?.take(LONGEST + 1).read_to_string(&mut text)? as u64 > LONGEST {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}

fn candidates(registry: &str) -> impl Iterator<Item = String> {
    let with_port = registry.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let with_port = with_port.map(|(host, port)| format!("{host}_{port}_"));
    with_port.into_iter().chain([registry.to_owned(), "_default".to_owned()])
}

#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: Host,
}

#[derive(Deserialize, Default)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<ClientFiles>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
    dial_timeout: Option<String>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    One(String),
    More(Vec<OneOrMore>),
}

fn parse(
    text: &str,
    registry: &str,
    directory: &Path,
    origin: Endpoint,
    config: &RegistryConfig,
) -> Result<Vec<Endpoint>, HostsError> {
    let file: File = toml::from_str(text).map_err(|error| HostsError::Format(error.to_string()))?;
    let mut endpoints = Vec::new();
    for (name, value) in file.host {
        let host: Host = value.try_into().map_err(|error: toml::de::Error| HostsError::Host {
            host: name.clone(),
            problem: error.message().to_owned(),
        })?;
        endpoints.push(host.endpoint(&name, directory, config)?);
    }
    let mut server = match &file.server {
        Some(server) => file.own.endpoint(server, directory, config)?,
        None => Endpoint { base: origin.base.clone(), ..file.own.endpoint(origin.base.as_str(), directory, config)? },
    };
    server.namespace = None;
    endpoints.push(server);
    for endpoint in &mut endpoints {
        // The registry itself may be listed, with settings of its own; and a server may be another place than the registry.
        endpoint.namespace = (!is_same_host(&endpoint.base, &origin.base)).then(|| registry.to_owned());
    }
    Ok(endpoints)
}

/// Whether this is the registry by its name: whoever writes the file decides whether it is spoken to with TLS.
fn is_same_host(base: &Url, origin: &Url) -> bool {
    (base.host_str(), base.port()) == (origin.host_str(), origin.port())
}

impl Host {
    fn endpoint(self, name: &str, directory: &Path, config: &RegistryConfig) -> Result<Endpoint, HostsError> {
        let wrong = |problem: String| HostsError::Host { host: name.to_owned(), problem };
        let text = match name.contains("://") {
            true => name.to_owned(),
            false if config.is_plain(name.split('/').next().unwrap_or(name)) => format!("http://{name}"),
            false => format!("https://{name}"),
        };
        let mut base = Url::parse(&text).map_err(|error| wrong(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong("it must be an http or https address".to_owned()));
        }
        let path = base.path().trim_end_matches('/');
        let path = match path.ends_with("/v2") || self.override_path {
            true => format!("{path}/"),
            false => format!("{path}/v2/"),
        };
        base.set_path(&path);
        base.set_query(None);
        let capabilities = match &self.capabilities {
            None => Capabilities::ALL,
            Some(names) if names.is_empty() => Capabilities::ALL,
            Some(names) => {
                let has = |name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name));
                let known = ["pull", "resolve", "push", "referrers"];
                let is_known = |name: &String| known.iter().any(|known| name.eq_ignore_ascii_case(known));
                if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
                    return Err(wrong(format!("unknown capability `{unknown}`")));
                }
                Capabilities { pull: has("pull"), resolve: has("resolve"), push: has("push") }
            }
        };
        let connect_timeout = self.dial_timeout.as_deref().map(|text| {
            crate::go_duration::parse(text)
                .filter(|time| !time.is_zero())
                .ok_or_else(|| wrong(format!("`{text}` is no dial_timeout such as 500ms or 10s")))
        });
        let connect_timeout = connect_timeout.transpose()?;
        let file = |name: String| directory.join(name);
        let tls = Tls {
            authorities: self.ca.map(OneOrMore::into_vec).unwrap_or_default().into_iter().map(file).collect(),
            identity: identity(self.client, directory).map_err(wrong)?,
            skip_verify: self.skip_verify,
        };
        let mut headers = HeaderMap::new();
        for (name, values) in self.header {
            let invalid = || wrong(format!("the header `{name}` cannot be sent"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            for value in values.into_vec() {
                let mut value = HeaderValue::from_str(&value).map_err(|_| invalid())?;
                value.set_sensitive(true);
                headers.append(header.clone(), value);
            }
        }
        Ok(Endpoint { base, tls, headers, capabilities, namespace: None, connect_timeout })
    }
}

const ONE_IDENTITY: &str = "several client certificates: only one can be shown";

/// A file with both; a list of such files, or of pairs of certificate and key. Of all of them, one.
fn identity(client: Option<ClientFiles>, directory: &Path) -> Result<Option<(PathBuf, Option<PathBuf>)>, String> {
    let file = |name: String| directory.join(name);
    let entries = match client {
        None => return Ok(None),
        Some(ClientFiles::One(one)) => return Ok(Some((file(one), None))),
        Some(ClientFiles::More(entries)) => entries,
    };
    let pair = |entry: OneOrMore| match entry {
        OneOrMore::One(one) => Ok((file(one), None)),
        OneOrMore::More(names) => match <[String; 2]>::try_from(names) {
            Ok([certificate, key]) => Ok((file(certificate), Some(file(key)).filter(|key| *key != directory))),
            Err(_) => Err("client must be files, or pairs of certificate and key".to_owned()),
        },
    };
    let mut entries = entries.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    match entries.len() {
        0 | 1 => Ok(entries.pop()),
        _ => Err(ONE_IDENTITY.to_owned()),
    }
}

/// Docker's own way: certificates beside each other, by their endings.
fn dockers(directory: &Path) -> io::Result<Tls> {
    let mut tls = Tls::default();
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("crt") => tls.authorities.push(path),
            Some("cert") => {
                // Without a file of its own the key is beside the certificate.
                let key = Some(path.with_extension("key")).filter(|key| key.exists());
                if tls.identity.replace((path, key)).is_some() {
                    return Err(io::Error::other(ONE_IDENTITY));
                }
            }
            _ => {}
        }
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(text: &str) -> Result<Vec<Endpoint>, HostsError> {
        let config = RegistryConfig::default();
        let origin = Endpoint::of_registry(&config, "docker.io").unwrap();
        parse(text, "docker.io", Path::new("/etc/hosts.d/docker.io"), origin, &config)
    }

    fn bases(text: &str) -> Vec<String> {
        parsed(text).unwrap().iter().map(|endpoint| endpoint.base.to_string()).collect()
    }

    #[test]
    fn mirrors_come_first_in_their_order_and_the_server_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://z.mirror.test"]
              capabilities = ["pull", "resolve"]
            [host."http://a.mirror.test:5000/some/path"]
              capabilities = ["pull"]
            [host."https://own.test/api/docker"]
              override_path = true
            [host."localhost:5000"]
        "#;
        assert_eq!(
            bases(text),
            [
                "https://z.mirror.test/v2/",
                "http://a.mirror.test:5000/some/path/v2/",
                "https://own.test/api/docker/",
                "http://localhost:5000/v2/",
                "https://registry-1.docker.io/v2/",
            ],
        );
        let endpoints = parsed(text).unwrap();
        assert_eq!(endpoints[0].capabilities, Capabilities { pull: true, resolve: true, push: false });
        assert_eq!(endpoints[1].capabilities, Capabilities { pull: true, resolve: false, push: false });
        assert_eq!(endpoints[0].namespace.as_deref(), Some("docker.io"));
        assert!(endpoints[4].is_origin());
    }

    #[test]
    fn settings_are_read_for_hosts_and_for_the_server() {
        let text = r#"
            ca = "own.pem"
            skip_verify = true
            [host."https://m.test"]
              ca = ["/abs/one.pem", "two.pem"]
              client = [["a.cert", "a.key"]]
              dial_timeout = "1.5s"
              [host."https://m.test".header]
                x-one = "1"
                x-two = ["2", "3"]
        "#;
        let endpoints = parsed(text).unwrap();
        let directory = Path::new("/etc/hosts.d/docker.io");
        assert_eq!(endpoints[0].tls.authorities, [PathBuf::from("/abs/one.pem"), directory.join("two.pem")]);
        let pair = (directory.join("a.cert"), Some(directory.join("a.key")));
        assert_eq!(endpoints[0].tls.identity, Some(pair));
        assert_eq!(endpoints[0].connect_timeout, Some(Duration::from_millis(1500)));
        let values: Vec<_> = endpoints[0].headers.get_all("x-two").iter().collect();
        assert_eq!(values, ["2", "3"]);
        assert_eq!(endpoints[1].base.as_str(), "https://registry-1.docker.io/v2/");
        assert_eq!(endpoints[1].tls.authorities, [directory.join("own.pem")]);
        assert!(endpoints[1].tls.skip_verify && endpoints[1].is_origin());
    }

    #[test]
    fn one_certificate_is_shown_however_it_is_written() {
        let file = |name: &str| Path::new("/etc/hosts.d/docker.io").join(name);
        for (client, expected) in [
            ("'both.pem'", Some((file("both.pem"), None))),
            ("['both.pem']", Some((file("both.pem"), None))),
            ("[['both.pem', '']]", Some((file("both.pem"), None))),
            ("['/abs/both.pem']", Some((file("/abs/both.pem"), None))),
            ("[['a.cert', 'a.key']]", Some((file("a.cert"), Some(file("a.key"))))),
            ("[]", None),
        ] {
            let endpoints = parsed(&format!("client = {client}")).unwrap();
            assert_eq!(endpoints[0].tls.identity, expected, "{client}");
        }
    }

    #[test]
    fn capabilities_are_read_as_containerd_reads_them() {
        let all = Capabilities::ALL;
        let pull = Capabilities { pull: true, resolve: false, push: false };
        for (names, expected) in
            [("[]", all), ("['Pull']", pull), ("['PULL', 'referrers']", pull), ("['push', 'Resolve', 'pull']", all)]
        {
            let endpoints = parsed(&format!("capabilities = {names}")).unwrap();
            assert_eq!(endpoints[0].capabilities, expected, "{names}");
        }
    }

    #[test]
    fn dockers_files_count_where_no_hosts_toml_says_anything() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("r.test");
        fs::create_dir(&directory).unwrap();
        let config = RegistryConfig { hosts_dir: Some(root.path().to_owned()), ..RegistryConfig::default() };
        let write = |name: &str| fs::write(directory.join(name), "").unwrap();
        let tls = || endpoints(&config, "r.test").map(|mut endpoints| endpoints.remove(0).tls);
        let with = |identity| Ok(Tls { authorities: vec![directory.join("a.crt")], identity, skip_verify: false });
        write("a.crt");
        write("b.cert");
        assert_eq!(tls(), with(Some((directory.join("b.cert"), None))));
        write("b.key");
        write("hosts.toml");
        assert_eq!(tls(), with(Some((directory.join("b.cert"), Some(directory.join("b.key"))))));
        write("c.cert");
        let refused = tls().unwrap_err().to_string();
        assert!(refused.contains("r.test: several client certificates"), "{refused}");
    }

    #[test]
    fn a_server_elsewhere_is_not_shown_the_users_credentials() {
        let endpoints = parsed("server = \"https://elsewhere.test\"").unwrap();
        assert!(!endpoints[0].is_origin());
    }

    #[test]
    fn the_registry_is_itself_with_tls_and_without() {
        for (registry, server, is_itself) in [
            ("localhost:5000", "https://localhost:5000", true),
            ("nas.lan:5000", "http://nas.lan:5000", true),
            ("nas.lan", "http://nas.lan", true),
            ("nas.lan:5000", "http://nas.lan:5001", false),
            ("nas.lan", "https://nas.lan.test", false),
        ] {
            let config = RegistryConfig::default();
            let origin = Endpoint::of_registry(&config, registry).unwrap();
            let text = format!("server = '{server}'");
            let endpoints = parse(&text, registry, Path::new("/"), origin, &config).unwrap();
            assert_eq!(endpoints[0].is_origin(), is_itself, "{registry} at {server}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("server = 7", "server"),
            ("[host.\"ftp://x\"]", "ftp://x"),
            ("[host.\"https://m.test\"]\ncapabilities = [\"fly\"]", "fly"),
            ("[host.\"https://m.test\"]\ncapabilities = \"pull\"", "https://m.test"),
            ("[host.\"https://m.test\"]\ndial_timeout = \"soon\"", "soon"),
            ("[host.\"https://m.test\"]\nclient = [[\"a\", \"b\", \"c\"]]", "pairs"),
            ("[host.\"https://m.test\".header]\nx-a = \"1\\n2\"", "x-a"),
            ("client = [['a.cert', 'a.key'], 'both.pem']", "several client certificates"),
            ("][", "TOML"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert_eq!(bases(""), ["https://registry-1.docker.io/v2/"]);
    }

    #[test]
    fn directories_are_looked_for_as_containerd_does() {
        let names = |registry| candidates(registry).collect::<Vec<_>>();
        assert_eq!(names("r.test:5000"), ["r.test_5000_", "r.test:5000", "_default"]);
        assert_eq!(names("docker.io"), ["docker.io", "_default"]);
    }
}
