//! The `KubeletConfiguration` file (`kubelet.config.k8s.io/v1beta1`): the subset that is honoured.
//!
//! A field that is not in the table is told with its path and changes nothing; a value of the wrong kind is an error
//! with field and reason.
//!
//! | honoured | |
//! |---|---|
//! | server | `address`, `port`, `healthzBindAddress`, `healthzPort`, `tlsCertFile`, `tlsPrivateKeyFile` |
//! | certificates | `serverTLSBootstrap`, `rotateCertificates` |
//! | access | `authentication.anonymous.enabled`, `authentication.webhook.enabled`, `authentication.webhook.cacheTTL`, `authentication.x509.clientCAFile`, `authorization.mode`, `authorization.webhook.cacheAuthorizedTTL`, `authorization.webhook.cacheUnauthorizedTTL` |
//! | node | `registerNode`, `registerWithTaints`, `providerID`, `podCIDR`, `maxPods`, `podsPerCore`, `kubeReserved`, `systemReserved`, `evictionHard`, `evictionPressureTransitionPeriod`, `nodeStatusUpdateFrequency`, `nodeStatusReportFrequency`, `nodeLeaseDurationSeconds`, `nodeStatusMaxImages` |
//! | pods | `staticPodPath`, `fileCheckFrequency`, `cgroupRoot`, `clusterDNS`, `clusterDomain`, `resolvConf`, `podLogsDir`, `containerLogMaxSize`, `containerLogMaxFiles`, `crashLoopBackOff.maxContainerRestartPeriod` |
//! | images | `serializeImagePulls`, `maxParallelImagePulls`, `registryPullQPS`, `registryBurst`, `imagePullCredentialsVerificationPolicy`, `preloadedImagesVerificationAllowlist`, `imageMinimumGCAge`, `imageMaximumGCAge`, `imageGCHighThresholdPercent`, `imageGCLowThresholdPercent` |
//! | events | `eventRecordQPS`, `eventBurst` |

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use crate::pull::access::{Allowlist, VerificationPolicy};
use crate::resources::ResourceList;

mod read;

use read::Section;

/// What the file says; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KubeletConfiguration {
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub healthz_bind_address: Option<IpAddr>,
    /// 0: off.
    pub healthz_port: Option<u16>,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_private_key_file: Option<PathBuf>,
    pub server_tls_bootstrap: Option<bool>,
    pub rotate_certificates: Option<bool>,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub register_node: Option<bool>,
    pub register_with_taints: Option<Vec<Taint>>,
    pub provider_id: Option<String>,
    pub pod_cidr: Option<String>,
    pub max_pods: Option<u32>,
    pub pods_per_core: Option<u32>,
    pub kube_reserved: Option<ResourceList>,
    pub system_reserved: Option<ResourceList>,
    /// Signal (`memory.available`) to threshold (`100Mi`, `10%`), as written.
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub node_status_update_frequency: Option<Duration>,
    pub node_status_report_frequency: Option<Duration>,
    pub eviction_pressure_transition_period: Option<Duration>,
    pub node_lease_duration_seconds: Option<u32>,
    /// -1: all.
    pub node_status_max_images: Option<i64>,
    /// A manifest, or a directory of them.
    pub static_pod_path: Option<PathBuf>,
    pub file_check_frequency: Option<Duration>,
    /// Cgroup under which those of pods are made.
    pub cgroup_root: Option<String>,
    pub cluster_dns: Option<Vec<IpAddr>>,
    pub cluster_domain: Option<String>,
    pub resolv_conf: Option<PathBuf>,
    pub pod_logs_dir: Option<PathBuf>,
    /// Bytes.
    pub container_log_max_size: Option<u64>,
    pub container_log_max_files: Option<u32>,
    /// 1 s to 300 s.
    pub max_container_restart_period: Option<Duration>,
    pub serialize_image_pulls: Option<bool>,
    pub max_parallel_image_pulls: Option<u32>,
    pub registry_pull_qps: Option<u32>,
    pub registry_burst: Option<u32>,
    /// With its list.
    pub image_verification: Option<VerificationPolicy>,
    pub image_minimum_gc_age: Option<Duration>,
    /// 0: no image is too old.
    pub image_maximum_gc_age: Option<Duration>,
    /// 0 to 100.
    pub image_gc_high_threshold_percent: Option<u8>,
    /// 0 to 100.
    pub image_gc_low_threshold_percent: Option<u8>,
    pub event_record_qps: Option<u32>,
    pub event_burst: Option<u32>,
}

/// `authentication`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authentication {
    pub anonymous: Option<bool>,
    pub webhook: Option<bool>,
    pub webhook_cache_ttl: Option<Duration>,
    pub client_ca_file: Option<PathBuf>,
}

/// `authorization`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorization {
    pub mode: Option<AuthorizationMode>,
    pub cache_authorized_ttl: Option<Duration>,
    pub cache_unauthorized_ttl: Option<Duration>,
}

/// `authorization.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationMode {
    AlwaysAllow,
    Webhook,
}

/// The file is read, with remarks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    pub config: KubeletConfiguration,
    /// One line each, with the field's path: unknown fields and fields that are not honoured.
    pub warnings: Vec<String>,
}

/// A wrong value: the start stops. The caller adds the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// Path of the field, such as `authentication.webhook.cacheTTL`; `(document)` for the whole.
    pub field: String,
    pub reason: String,
}

/// Reads YAML or JSON.
pub fn parse(text: &str) -> Result<Parsed, ConfigError> {
    let mut top = Section::document(text)?;
    for (field, only) in [("kind", "KubeletConfiguration"), ("apiVersion", "kubelet.config.k8s.io/v1beta1")] {
        match top.text(field)? {
            Some(value) if value == only => {}
            Some(value) => return Err(top.error(field, format!("expected {only:?}, found {value:?}"))),
            None => return Err(top.error(field, format!("missing, expected {only:?}"))),
        }
    }
    let mut crash_loops = top.section("crashLoopBackOff")?;
    let config = KubeletConfiguration {
        address: top.address("address")?,
        port: top.port("port")?,
        healthz_bind_address: top.address("healthzBindAddress")?,
        healthz_port: top.port("healthzPort")?,
        tls_cert_file: top.path("tlsCertFile")?,
        tls_private_key_file: top.path("tlsPrivateKeyFile")?,
        server_tls_bootstrap: top.boolean("serverTLSBootstrap")?,
        rotate_certificates: top.boolean("rotateCertificates")?,
        authentication: authentication(&mut top)?,
        authorization: authorization(&mut top)?,
        register_node: top.boolean("registerNode")?,
        register_with_taints: top.object("registerWithTaints")?,
        provider_id: top.text("providerID")?,
        pod_cidr: top.text("podCIDR")?,
        max_pods: top.count("maxPods")?,
        pods_per_core: top.count("podsPerCore")?,
        kube_reserved: top.resources("kubeReserved")?,
        system_reserved: top.resources("systemReserved")?,
        eviction_hard: top.object("evictionHard")?,
        node_status_update_frequency: top.duration("nodeStatusUpdateFrequency")?,
        node_status_report_frequency: top.duration("nodeStatusReportFrequency")?,
        eviction_pressure_transition_period: top.duration("evictionPressureTransitionPeriod")?,
        node_lease_duration_seconds: top.count("nodeLeaseDurationSeconds")?,
        node_status_max_images: top.whole("nodeStatusMaxImages", -1..=i64::MAX)?,
        static_pod_path: top.path("staticPodPath")?,
        file_check_frequency: top.duration("fileCheckFrequency")?,
        cgroup_root: top.text("cgroupRoot")?,
        cluster_dns: top.addresses("clusterDNS")?,
        cluster_domain: top.text("clusterDomain")?,
        resolv_conf: top.path("resolvConf")?,
        pod_logs_dir: top.path("podLogsDir")?,
        container_log_max_size: top.bytes("containerLogMaxSize")?,
        container_log_max_files: top.count("containerLogMaxFiles")?,
        max_container_restart_period: restart_period(&mut crash_loops)?,
        serialize_image_pulls: top.boolean("serializeImagePulls")?,
        max_parallel_image_pulls: top.count("maxParallelImagePulls")?,
        registry_pull_qps: top.count("registryPullQPS")?,
        registry_burst: top.count("registryBurst")?,
        image_verification: image_verification(&mut top)?,
        image_minimum_gc_age: top.duration("imageMinimumGCAge")?,
        image_maximum_gc_age: top.duration("imageMaximumGCAge")?,
        image_gc_high_threshold_percent: percent(&mut top, "imageGCHighThresholdPercent")?,
        image_gc_low_threshold_percent: percent(&mut top, "imageGCLowThresholdPercent")?,
        event_record_qps: top.count("eventRecordQPS")?,
        event_burst: top.count("eventBurst")?,
    };
    if config.container_log_max_files.is_some_and(|files| files < 2) {
        return Err(top.error("containerLogMaxFiles", "must be at least 2".to_owned()));
    }
    crash_loops.rest_into(&mut top);
    Ok(Parsed { config, warnings: top.warnings() })
}

fn percent(top: &mut Section, field: &str) -> Result<Option<u8>, ConfigError> {
    let share = top.whole(field, 0..=100)?;
    Ok(share.and_then(|share| u8::try_from(share).ok()))
}

fn image_verification(top: &mut Section) -> Result<Option<VerificationPolicy>, ConfigError> {
    const FIELD: &str = "imagePullCredentialsVerificationPolicy";
    const LIST: &str = "preloadedImagesVerificationAllowlist";
    let list = top.object::<Vec<String>>(LIST)?;
    let policy = match top.text(FIELD)?.as_deref() {
        None | Some("") => None,
        Some("NeverVerify") => Some(VerificationPolicy::NeverVerify),
        Some("NeverVerifyPreloadedImages") => Some(VerificationPolicy::NeverVerifyPreloadedImages),
        Some("NeverVerifyAllowlistedImages") => {
            let list = Allowlist::parse(list.clone().unwrap_or_default()).map_err(|reason| top.error(LIST, reason))?;
            Some(VerificationPolicy::NeverVerifyAllowlistedImages(list))
        }
        Some("AlwaysVerify") => Some(VerificationPolicy::AlwaysVerify),
        Some(other) => {
            let reason = format!(
                "expected \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\", found {other:?}"
            );
            return Err(top.error(FIELD, reason));
        }
    };
    let listed = matches!(policy, Some(VerificationPolicy::NeverVerifyAllowlistedImages(_)));
    if !listed && list.is_some_and(|list| !list.is_empty()) {
        return Err(top.error(LIST, format!("is only for {FIELD}: NeverVerifyAllowlistedImages")));
    }
    Ok(policy)
}

fn authentication(top: &mut Section) -> Result<Authentication, ConfigError> {
    let mut section = top.section("authentication")?;
    let mut anonymous = section.section("anonymous")?;
    let mut webhook = section.section("webhook")?;
    let mut x509 = section.section("x509")?;
    let read = Authentication {
        anonymous: anonymous.boolean("enabled")?,
        webhook: webhook.boolean("enabled")?,
        webhook_cache_ttl: webhook.duration("cacheTTL")?,
        client_ca_file: x509.path("clientCAFile")?,
    };
    for part in [anonymous, webhook, x509, section] {
        part.rest_into(top);
    }
    Ok(read)
}

fn authorization(top: &mut Section) -> Result<Authorization, ConfigError> {
    let mut section = top.section("authorization")?;
    let mut webhook = section.section("webhook")?;
    let mode = match section.text("mode")?.as_deref() {
        None => None,
        Some("AlwaysAllow") => Some(AuthorizationMode::AlwaysAllow),
        Some("Webhook") => Some(AuthorizationMode::Webhook),
        Some(other) => {
            return Err(section.error("mode", format!("expected \"AlwaysAllow\" or \"Webhook\", found {other:?}")));
        }
    };
    let read = Authorization {
        mode,
        cache_authorized_ttl: webhook.duration("cacheAuthorizedTTL")?,
        cache_unauthorized_ttl: webhook.duration("cacheUnauthorizedTTL")?,
    };
    webhook.rest_into(top);
    section.rest_into(top);
    Ok(read)
}

fn restart_period(section: &mut Section) -> Result<Option<Duration>, ConfigError> {
    const FIELD: &str = "maxContainerRestartPeriod";
    let period = section.duration(FIELD)?;
    match period.filter(|period| !(1..=300).contains(&period.as_secs()) || *period > Duration::from_secs(300)) {
        Some(_) => Err(section.error(FIELD, "must be between 1s and 300s".to_owned())),
        None => Ok(period),
    }
}

#[cfg(test)]
mod tests;
