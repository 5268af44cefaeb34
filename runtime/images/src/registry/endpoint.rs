//! Where a registry's API is, and how it is reached: the registry itself, or a mirror of it.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::{RegistryConfig, RegistryFailure};
use crate::reference::Reference;

/// Docker Hub's registry is at another host than its name.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// One place where images of a registry can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Ends in `/`; `/v2/` unless the configuration has its own path.
    pub(super) base: Url,
    pub(super) tls: Tls,
    /// Sent with each request.
    pub(super) headers: HeaderMap,
    pub(super) capabilities: Capabilities,
    /// The registry's name, for a mirror that serves several.
    pub(super) namespace: Option<String>,
    pub(super) connect_timeout: Option<Duration>,
}

/// Whom to trust, and what to show, beside the system's ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// Files of authorities, in PEM.
    pub(super) authorities: Vec<PathBuf>,
    /// Files with our certificate and its key, in PEM; one file may hold both.
    pub(super) identity: Option<(PathBuf, Option<PathBuf>)>,
    /// Trust whatever certificate is shown.
    pub(super) skip_verify: bool,
}

/// What an endpoint may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Blobs, and manifests by digest.
    pub(super) pull: bool,
    /// What a tag stands for.
    pub(super) resolve: bool,
    pub(super) push: bool,
}

impl Capabilities {
    pub(super) const ALL: Self = Self { pull: true, resolve: true, push: true };
}

impl Endpoint {
    /// The registry that a reference names.
    pub(super) fn of_registry(config: &RegistryConfig, registry: &str) -> Result<Self, RegistryFailure> {
        let host = if registry == DOCKER_HUB { DOCKER_HUB_HOST } else { registry };
        let scheme = if config.is_plain(registry) { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{host}/v2/"))
            .map_err(|error| RegistryFailure::Configuration(format!("{host}: {error}")))?;
        Ok(Self {
            base,
            tls: Tls::default(),
            headers: HeaderMap::new(),
            capabilities: Capabilities::ALL,
            namespace: None,
            connect_timeout: None,
        })
    }

    /// Whether it is the registry itself: only there go the user's credentials.
    pub(super) fn is_origin(&self) -> bool {
        self.namespace.is_none()
    }

    /// Host and port, for messages.
    pub(super) fn name(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// What the repository is called there: a mirror may have a path of its own before it, behind that of the API.
    pub(super) fn repository(&self, reference: &Reference) -> String {
        let own = self.base.path().split_once("/v2/").map_or("", |(_, own)| own);
        format!("{own}{}", reference.repository())
    }

    /// `<base><repository>/<rest>`.
    pub(super) fn url(&self, reference: &Reference, rest: &str) -> Result<Url, RegistryFailure> {
        let path = format!("{}/{rest}", reference.repository());
        let mut url = self.base.join(&path).map_err(|error| RegistryFailure::Configuration(error.to_string()))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Whether a URL is of the same place, so that what is for the one may be sent to the other.
    pub(super) fn is_same_place(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_is_spoken_to_at_its_own_host() {
        let endpoint = Endpoint::of_registry(&RegistryConfig::default(), "docker.io").unwrap();
        let reference = Reference::parse("nginx").unwrap();
        let url = endpoint.url(&reference, "manifests/latest").unwrap();
        assert_eq!(url.as_str(), "https://registry-1.docker.io/v2/library/nginx/manifests/latest");
    }

    #[test]
    fn a_mirror_is_told_whose_images_are_wanted() {
        let mut endpoint = Endpoint::of_registry(&RegistryConfig::default(), "localhost:5000").unwrap();
        endpoint.namespace = Some("docker.io".to_owned());
        let url = endpoint.url(&Reference::parse("nginx").unwrap(), "blobs/x").unwrap();
        assert_eq!(url.as_str(), "http://localhost:5000/v2/library/nginx/blobs/x?ns=docker.io");
        assert!(!endpoint.is_origin());
    }

    #[test]
    fn a_mirrors_own_path_is_a_part_of_the_repositorys_name() {
        let reference = Reference::parse("nginx").unwrap();
        let mut endpoint = Endpoint::of_registry(&RegistryConfig::default(), "m.test").unwrap();
        for (path, repository) in [
            ("/v2/", "library/nginx"),
            ("/v2/proxy/hub/", "proxy/hub/library/nginx"),
            ("/some/path/v2/", "library/nginx"),
            ("/api/docker/", "library/nginx"),
        ] {
            endpoint.base.set_path(path);
            assert_eq!(endpoint.repository(&reference), repository, "{path}");
        }
    }

    #[test]
    fn another_port_or_scheme_is_another_place() {
        let endpoint = Endpoint::of_registry(&RegistryConfig::default(), "r.test").unwrap();
        for (url, same) in [
            ("https://r.test/x", true),
            ("https://r.test:443/x", true),
            ("http://r.test/x", false),
            ("https://r.test:444/x", false),
            ("https://r.test.evil/x", false),
        ] {
            assert_eq!(endpoint.is_same_place(&Url::parse(url).unwrap()), same, "{url}");
        }
    }
}
