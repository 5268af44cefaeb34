//! What a probe or hook does, with host, port and command resolved (kubelet: `probe/http/request.go`,
//! `lifecycle/handlers.go`).

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, HTTPHeader, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::env;
use crate::events::pod_text;

/// `User-Agent` of probes.
const PROBE_USER_AGENT: &str = "kube-probe/1.36";
/// `User-Agent` of hooks.
const HOOK_USER_AGENT: &str = "kube-lifecycle/1.36";

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    Exec {
        command: Vec<String>,
    },
    /// Status 200 to 399 is a success; a redirect to another host is a warning. Certificates are not verified.
    Http {
        scheme: Scheme,
        host: String,
        port: u16,
        /// Path and query, with leading slash.
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: String,
        port: u16,
    },
    Grpc {
        host: String,
        port: u16,
        service: String,
    },
    Sleep {
        duration: Duration,
    },
}

/// Of an HTTP probe or hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    PostStart,
    PreStop,
}

/// The probe's handler; the error is the text for [`super::ProbeResult::Unknown`].
pub fn probe_handler(pod: &Pod, container: &Container, probe: &Probe, pod_ip: &str) -> Result<Handler, String> {
    if let Some(exec) = &probe.exec {
        // Only values that are written in the spec: what comes from elsewhere is not there for probes.
        let fixed: BTreeMap<_, _> = container
            .env
            .iter()
            .flatten()
            .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
            .collect();
        let command = exec.command.iter().flatten().map(|text| env::expand(text, &fixed)).collect();
        return Ok(Handler::Exec { command });
    }
    if let Some(action) = &probe.http_get {
        return http(action, container, pod_ip, PROBE_USER_AGENT);
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        return Ok(Handler::Tcp { host, port: port(&action.port, container)? });
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.clone().unwrap_or_default();
        return Ok(Handler::Grpc { host: pod_ip.to_owned(), port: number(action.port)?, service });
    }
    Err(format!("missing probe handler for {}:{}", pod_text(pod), container.name))
}

/// The hook's handler; `Ok(None)` without a hook.
pub fn hook_handler(container: &Container, hook: Hook, pod_ip: &str) -> Result<Option<Handler>, String> {
    let lifecycle = container.lifecycle.as_ref();
    let action = match hook {
        Hook::PostStart => lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()),
        Hook::PreStop => lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()),
    };
    let Some(action) = action else { return Ok(None) };
    if let Some(exec) = &action.exec {
        return Ok(Some(Handler::Exec { command: exec.command.clone().unwrap_or_default() }));
    }
    if let Some(http_get) = &action.http_get {
        return http(http_get, container, pod_ip, HOOK_USER_AGENT).map(Some);
    }
    if let Some(sleep) = &action.sleep {
        let duration = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        return Ok(Some(Handler::Sleep { duration }));
    }
    Err(format!("invalid handler of container {}", container.name))
}

fn http(action: &HTTPGetAction, container: &Container, pod_ip: &str, user_agent: &str) -> Result<Handler, String> {
    let https = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let path = action.path.as_deref().unwrap_or_default();
    Ok(Handler::Http {
        scheme: if https { Scheme::Https } else { Scheme::Http },
        host: action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
        port: port(&action.port, container)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers: headers(action.http_headers.as_deref().unwrap_or_default(), user_agent),
    })
}

/// Those given, and what is missing of `User-Agent` and `Accept`; an empty value of these leaves the header out.
fn headers(given: &[HTTPHeader], user_agent: &str) -> Vec<(String, String)> {
    let mut headers: Vec<_> = given.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
    for (name, default) in [("User-Agent", user_agent), ("Accept", "*/*")] {
        let is_it = |header: &(String, String)| header.0.eq_ignore_ascii_case(name);
        if !headers.iter().any(is_it) {
            headers.push((name.to_owned(), default.to_owned()));
        }
        headers.retain(|header| !is_it(header) || !header.1.is_empty());
    }
    headers
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    match port {
        IntOrString::Int(value) => number(*value),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            match (named, name.parse()) {
                (Some(port), _) => number(port.container_port),
                (None, Ok(value)) => number(value),
                (None, Err(_)) => Err(format!("port {name} not found")),
            }
        }
    }
}

fn number(value: i32) -> Result<u16, String> {
    u16::try_from(value).ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port number: {value}"))
}
