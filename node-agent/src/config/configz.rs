//! `/configz`: the configuration that is in force, as a `KubeletConfiguration`.

use std::time::Duration;

use serde_json::{Value, json};

use super::AgentConfig;
use crate::certificates::ServingSource;
use crate::server::Authorization;

/// `{"kubeletconfig": {...}}`, with the fields that are honoured here.
pub fn configz(config: &AgentConfig) -> Value {
    let (node, server, pods) = (&config.node, &config.server, &config.pods);
    let authorization = match server.authorization {
        Authorization::AlwaysAllow => json!({"mode": "AlwaysAllow"}),
        Authorization::Webhook { allowed_ttl, denied_ttl } => json!({
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": duration(allowed_ttl), "cacheUnauthorizedTTL": duration(denied_ttl)},
        }),
    };
    let mut told = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": server.address,
        "port": server.port,
        "healthzPort": server.healthz.map_or(0, |address| address.port()),
        "serverTLSBootstrap": config.certificates.serving == ServingSource::Signed,
        "rotateCertificates": config.certificates.rotate_client,
        "authentication": {
            "x509": {"clientCAFile": server.client_ca},
            "webhook": {"enabled": server.token_review, "cacheTTL": duration(server.token_ttl)},
            "anonymous": {"enabled": server.anonymous},
        },
        "authorization": authorization,
        "registerNode": node.register,
        "registerWithTaints": node.taints,
        "providerID": node.provider_id,
        "podCIDR": node.pod_cidr,
        "maxPods": node.max_pods,
        "podsPerCore": node.pods_per_core,
        "nodeStatusUpdateFrequency": duration(node.status_update_every),
        "nodeStatusReportFrequency": duration(node.status_report_every),
        "evictionPressureTransitionPeriod": duration(node.pressure_period),
        "nodeLeaseDurationSeconds": node.lease_seconds,
        "nodeStatusMaxImages": node.max_images.map_or(json!(-1), |most| json!(most)),
        "staticPodPath": config.manifests.as_ref().map(|manifests| &manifests.path),
        "fileCheckFrequency": config.manifests.as_ref().map(|manifests| duration(manifests.every)),
        "cgroupRoot": pods.cgroup_root,
        "clusterDNS": pods.dns.servers,
        "clusterDomain": pods.dns.domain,
        "resolvConf": pods.resolv_conf,
        "podLogsDir": config.pod_logs_dir,
        "containerLogMaxSize": pods.log_max_size.to_string(),
        "containerLogMaxFiles": pods.log_max_files,
        "eventRecordQPS": pods.events.per_second,
        "eventBurst": pods.events.burst,
        "serializeImagePulls": pods.pulls.parallel == Some(1),
        "imageMinimumGCAge": duration(pods.image_gc.min_age),
        "imageMaximumGCAge": duration(pods.image_gc.max_age),
        "imageGCHighThresholdPercent": pods.image_gc.high_percent,
        "imageGCLowThresholdPercent": pods.image_gc.low_percent,
        "imagePullCredentialsVerificationPolicy": pods.verification.name(),
        "crashLoopBackOff": {"maxContainerRestartPeriod": duration(pods.restart_backoff.cap)},
    });
    if let Value::Object(fields) = &mut told {
        // What is not there is not limited.
        let pulls = &pods.pulls;
        fields.extend(pulls.parallel.map(|most| ("maxParallelImagePulls".into(), json!(most))));
        fields.extend(pulls.rate.map(|rate| ("registryPullQPS".into(), json!(rate.per_second))));
        fields.extend(pulls.rate.map(|rate| ("registryBurst".into(), json!(rate.burst))));
        let list = Some(pods.verification.allowlist()).filter(|list| !list.is_empty());
        fields.extend(list.map(|list| ("preloadedImagesVerificationAllowlist".into(), json!(list))));
    }
    if let (ServingSource::Files { certificate, key }, Value::Object(fields)) =
        (&config.certificates.serving, &mut told)
    {
        fields.insert("tlsCertFile".into(), json!(certificate));
        fields.insert("tlsPrivateKeyFile".into(), json!(key));
    }
    if let Some(address) = server.healthz {
        told["healthzBindAddress"] = json!(address.ip());
    }
    json!({"kubeletconfig": told})
}

/// As Go writes whole seconds.
fn duration(duration: Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (seconds, expected) in [(0, "0s"), (10, "10s"), (60, "1m0s"), (125, "2m5s"), (3600, "60m0s")] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }
}
