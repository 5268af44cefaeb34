//! The environment of a container, and `$(VAR)` in its command (kubelet: `kubelet_pods.go` `makeEnvironmentVariables`,
//! `envvars/envvars.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod, Service};

use crate::fields::{self, Addresses, FieldError};
use crate::objects::{FetchError, Objects};
use crate::resources::ResourceList;

/// What variables refer to, beside the pod itself.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    pub objects: &'a Objects,
    /// Primary first.
    pub pod_ips: &'a [IpAddr],
    /// Primary first.
    pub host_ips: &'a [IpAddr],
    /// The node's allocatable: `limits.cpu` of a container without a limit.
    pub allocatable: &'a ResourceList,
}

/// Variables by name.
pub type Environment = BTreeMap<String, String>;

/// A variable that cannot be had: the container waits with `CreateContainerConfigError` and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey { key: String, namespace: String, name: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey { key: String, namespace: String, name: String },
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A guest takes text only.
    #[error("value of environment variable {0} is not UTF-8")]
    NotText(String),
    /// It would end the value early.
    #[error("environment variable {0} holds a NUL byte")]
    Nul(String),
    #[error("environment variable {0} refers to a file, which this node cannot honour")]
    FileKeyRef(String),
    #[error("missing value for {names:?} in subPathExpr {expression:?}")]
    SubPath { expression: String, names: Vec<String> },
}

/// Services first, `envFrom` over them, `env` over those, in order: `$(VAR)` is expanded against what came before and
/// the services.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources<'_>) -> Result<Environment, EnvError> {
    let services = service_variables(pod, &sources.objects.services);
    let mut own = Environment::new();
    for from in container.env_from.iter().flatten() {
        env_from(from, sources, &mut own)?;
    }
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref().unwrap_or_default(), &variable.value_from) {
            ("", Some(source)) => match value_from(&variable.name, source, pod, container, sources)? {
                Some(value) => value,
                None => continue,
            },
            (text, _) => expand_with(text, |name| own.get(name).or_else(|| services.get(name)).cloned()),
        };
        own.insert(variable.name.clone(), value);
    }
    let mut all = services;
    all.extend(own);
    match all.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        Some((name, _)) => Err(EnvError::Nul(name.replace('\0', "\\0"))),
        None => Ok(all),
    }
}

fn env_from(from: &EnvFromSource, sources: &Sources<'_>, own: &mut Environment) -> Result<(), EnvError> {
    let prefix = from.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &from.config_map_ref {
        if let Some(map) = there(sources.objects.config_map(&reference.name), reference.optional)? {
            for (key, value) in map.data.iter().flatten() {
                own.insert(format!("{prefix}{key}"), value.clone());
            }
        }
    } else if let Some(reference) = &from.secret_ref
        && let Some(secret) = there(sources.objects.secret(&reference.name), reference.optional)?
    {
        for (key, value) in secret.data.iter().flatten() {
            let name = format!("{prefix}{key}");
            let value = text(&name, &value.0)?;
            own.insert(name, value);
        }
    }
    Ok(())
}

/// `None`: optional and not there, the variable is left out.
fn value_from(
    variable: &str,
    source: &EnvVarSource,
    pod: &Pod,
    container: &Container,
    sources: &Sources<'_>,
) -> Result<Option<String>, EnvError> {
    let namespace = || pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(selector) = &source.field_ref {
        let addresses = Addresses { pod_ips: sources.pod_ips, host_ips: sources.host_ips };
        return Ok(Some(fields::field(selector, pod, addresses)?));
    }
    if let Some(selector) = &source.resource_field_ref {
        return Ok(Some(fields::resource(selector, pod, Some(container), sources.allocatable)?));
    }
    if let Some(selector) = &source.config_map_key_ref {
        let Some(map) = there(sources.objects.config_map(&selector.name), selector.optional)? else {
            return Ok(None);
        };
        return match map.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if selector.optional == Some(true) => Ok(None),
            None => Err(EnvError::NoConfigMapKey {
                key: selector.key.clone(),
                namespace: namespace(),
                name: selector.name.clone(),
            }),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let Some(secret) = there(sources.objects.secret(&selector.name), selector.optional)? else {
            return Ok(None);
        };
        return match secret.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(text(variable, &value.0)?)),
            None if selector.optional == Some(true) => Ok(None),
            None => Err(EnvError::NoSecretKey {
                key: selector.key.clone(),
                namespace: namespace(),
                name: selector.name.clone(),
            }),
        };
    }
    if source.file_key_ref.is_some() {
        return Err(EnvError::FileKeyRef(variable.to_owned()));
    }
    Ok(Some(String::new()))
}

fn there<T>(fetched: Result<T, FetchError>, optional: Option<bool>) -> Result<Option<T>, FetchError> {
    match fetched {
        Ok(object) => Ok(Some(object)),
        Err(FetchError::NotFound { .. }) if optional == Some(true) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(variable: &str, bytes: &[u8]) -> Result<String, EnvError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| EnvError::NotText(variable.to_owned()))
}

/// `$(VAR)` becomes the variable's value, `$$` becomes `$`, and what names no known variable stays as it is.
pub fn expand(text: &str, variables: &Environment) -> String {
    expand_with(text, |name| variables.get(name).cloned())
}

/// As [`expand`] for `subPathExpr`, where a name without a variable is an error.
pub fn expand_sub_path(expression: &str, variables: &Environment) -> Result<String, EnvError> {
    let mut missing = Vec::new();
    let path = expand_with(expression, |name| {
        let value = variables.get(name).cloned();
        if value.is_none() {
            missing.push(name.to_owned());
        }
        value
    });
    if missing.is_empty() {
        return Ok(path);
    }
    Err(EnvError::SubPath { expression: expression.to_owned(), names: missing })
}

fn expand_with(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let name = after.strip_prefix('(').and_then(|after| Some(&after[..after.find(')')?]));
        let Some(name) = name else {
            expanded.push('$');
            rest = after;
            continue;
        };
        match value(name) {
            Some(value) => expanded.push_str(&value),
            None => expanded.push_str(&format!("$({name})")),
        }
        rest = &after[name.len() + 2..];
    }
    expanded.push_str(rest);
    expanded
}

/// Variables of the namespace's Services (unless `enableServiceLinks` is false) and of `default/kubernetes`.
fn service_variables(pod: &Pod, services: &[std::sync::Arc<Service>]) -> Environment {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or("default");
        let has_address = !matches!(address(service), "" | "None");
        if !has_address {
            continue;
        }
        if of == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        } else if of == namespace && links {
            chosen.insert(name, service);
        }
    }
    chosen.into_iter().flat_map(|(name, service)| variables_of(name, service)).collect()
}

fn address(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default()
}

fn variables_of(name: &str, service: &Service) -> Vec<(String, String)> {
    let upper = |text: &str| text.replace('-', "_").to_uppercase();
    let prefix = upper(name);
    let address = address(service);
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
        let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            variables.push((format!("{prefix}_PORT"), url.clone()));
        }
        let port_prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.extend([
            (port_prefix.clone(), url),
            (format!("{port_prefix}_PROTO"), protocol.to_lowercase()),
            (format!("{port_prefix}_PORT"), port.port.to_string()),
            (format!("{port_prefix}_ADDR"), address.to_owned()),
        ]);
    }
    variables
}

#[cfg(test)]
mod tests;
