//! `fieldRef` and `resourceFieldRef`: values of the pod itself (kubelet: `kubelet_pods.go` `podFieldSelectorRuntimeValue`,
//! `fieldpath/fieldpath.go`, `api/v1/resource/helpers.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use crate::quantity::Amount;
use crate::resources::{self, ResourceList, name};

/// A reference that gives no value; the text is what users read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported pod version: {0}")]
    Version(String),
    #[error("field label not supported: {0}")]
    Field(String),
    #[error("field label does not support subscript: {0}")]
    Subscript(String),
    #[error("container {0} not found")]
    NoContainer(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error(transparent)]
    Quantity(#[from] resources::ResourceError),
    #[error("invalid divisor {divisor:?} of resource {resource}")]
    Divisor { divisor: String, resource: String },
}

/// Addresses that fields tell.
#[derive(Debug, Clone, Copy)]
pub struct Addresses<'a> {
    /// Primary first.
    pub pod_ips: &'a [IpAddr],
    /// Primary first.
    pub host_ips: &'a [IpAddr],
}

/// The value of a pod's field.
pub fn field(selector: &ObjectFieldSelector, pod: &Pod, addresses: Addresses<'_>) -> Result<String, FieldError> {
    let version = selector.api_version.as_deref().unwrap_or("v1");
    if !version.is_empty() && version != "v1" {
        return Err(FieldError::Version(version.to_owned()));
    }
    let path = selector.field_path.as_str();
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.annotations" => &meta.annotations,
            "metadata.labels" => &meta.labels,
            _ => return Err(FieldError::Subscript(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    Ok(match path {
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "spec.nodeName" | "spec.host" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" => first(addresses.host_ips),
        "status.hostIPs" => joined(addresses.host_ips),
        "status.podIP" => first(addresses.pod_ips),
        "status.podIPs" => joined(addresses.pod_ips),
        _ => return Err(FieldError::Field(path.to_owned())),
    })
}

/// `path['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

fn first(ips: &[IpAddr]) -> String {
    ips.first().map(IpAddr::to_string).unwrap_or_default()
}

fn joined(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

/// One `key="value"` a line, sorted by key; the value as Go quotes it.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quoted(value))).collect();
    lines.join("\n")
}

/// `strconv.Quote`: printable characters as they are, the others escaped.
pub(crate) fn go_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                quoted.push_str(&format!("\\x{:02x}", control as u32));
            }
            hidden if hidden.is_control() || (hidden.is_whitespace() && hidden != ' ') => {
                quoted.push_str(&format!("\\u{:04x}", hidden as u32));
            }
            shown => quoted.push(shown),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of a container's resource, divided by the divisor and rounded up. `own` is the container that refers, used
/// when the selector names none. A limit that is missing is the pod's own, else the node's allocatable.
pub fn resource(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    own: Option<&Container>,
    allocatable: &ResourceList,
) -> Result<String, FieldError> {
    let named = selector.container_name.as_deref().unwrap_or_default();
    let container = match own {
        Some(own) if named.is_empty() => own,
        _ => find(pod, named).ok_or_else(|| FieldError::NoContainer(named.to_owned()))?,
    };
    let unknown = || FieldError::Resource(selector.resource.clone());
    let (side, resource) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let known = matches!(resource, name::CPU | name::MEMORY | name::EPHEMERAL_STORAGE);
    if !known && !resource.starts_with("hugepages-") {
        return Err(unknown());
    }
    let amount = match side {
        "requests" => resources::container_requests(container)?.get(resource).copied(),
        "limits" => {
            let own = resources::container_limits(container)?.get(resource).copied();
            let own = own.filter(|amount| !amount.is_zero());
            let fallback = if known { default_limit(pod, resource, allocatable)? } else { None };
            own.or(fallback)
        }
        _ => return Err(unknown()),
    };
    divide(amount.unwrap_or_default(), selector, resource)
}

fn default_limit(
    pod: &Pod,
    resource: &str,
    allocatable: &ResourceList,
) -> Result<Option<Amount>, resources::ResourceError> {
    let pod_level = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let limits = resources::parse_list(pod_level.and_then(|r| r.limits.as_ref()), "spec.resources.limits")?;
    let own = limits.get(resource).filter(|amount| !amount.is_zero() && resource != name::EPHEMERAL_STORAGE);
    Ok(own.or(allocatable.get(resource)).copied())
}

fn divide(amount: Amount, selector: &ResourceFieldSelector, resource: &str) -> Result<String, FieldError> {
    let text = selector.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
    let invalid = || FieldError::Divisor { divisor: text.to_owned(), resource: selector.resource.clone() };
    let divisor = if text.is_empty() { Amount::ZERO } else { Amount::parse(text).map_err(|_| invalid())? };
    let divisor = if divisor.is_zero() { Amount::units(1) } else { divisor };
    let (amount, divisor) = match resource {
        name::CPU => (amount.milli_value(), divisor.milli_value()),
        _ => (amount.value(), divisor.value()),
    };
    if divisor <= 0 {
        return Err(invalid());
    }
    let rounded_up = (i128::from(amount) + i128::from(divisor) - 1).div_euclid(i128::from(divisor));
    Ok(rounded_up.to_string())
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}
