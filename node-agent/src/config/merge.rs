//! File and flags to one configuration: a flag first, then the file, then the default.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use samara_core::backoff::Backoff;
use samara_core::config::{AuthorizationMode, KubeletConfiguration, Parsed};
use samara_core::pull::gc::ImageGcPolicy;
use samara_core::quantity::Amount;
use samara_core::resources::ResourceList;
use samara_core::statics::Naming;

use super::{AgentConfig, ConfigError};
use crate::api::ApiConfig;
use crate::args::NodeArgs;
use crate::certificates::{CertificatesConfig, ServingSource};
use crate::network::Mode;
use crate::node::{EvictionHard, Machine, NodeConfig, Threshold};
use crate::pace::Rate;
use crate::pods::{CredentialsConfig, Manifests, PodsConfig};
use crate::server::{Authorization, ServerConfig};

/// Features of a kubelet that work here, in `status.declaredFeatures`.
const DECLARED_FEATURES: [&str; 1] = ["ExtendWebSocketsToKubelet"];
/// Labels that a flag may set and that are settings of their own.
const OS: &str = "kubernetes.io/os";
const ARCH: &str = "kubernetes.io/arch";

/// Reads a `KubeletConfiguration` file.
pub(crate) fn read(path: &Path) -> Result<Parsed, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    samara_core::config::parse(&text).map_err(|error| ConfigError::Value {
        path: path.to_owned(),
        field: error.field,
        reason: error.reason,
    })
}

/// Puts the flags over what the file says.
pub(crate) fn merge(flags: NodeArgs, file: KubeletConfiguration) -> Result<AgentConfig, ConfigError> {
    let flags = with_absolute_paths(flags);
    let path = flags.config.clone().unwrap_or_default();
    let wrong = |field: String, reason: String| ConfigError::Value { path: path.clone(), field, reason };
    let node_name = flags.node_name.clone().unwrap_or_else(Machine::hostname).to_lowercase();
    if !is_node_name(&node_name) {
        return Err(ConfigError::NodeName { name: node_name });
    }
    let pod_logs_dir =
        flags.log_dir.clone().or_else(|| file.pod_logs_dir.clone()).unwrap_or_else(|| "/var/log/pods".into());
    let beside = || pod_logs_dir.parent().unwrap_or(Path::new("/")).join("containers");
    let manifests = flags.pod_manifest_path.clone().or_else(|| file.static_pod_path.clone()).map(|path| Manifests {
        path,
        every: file.file_check_frequency.filter(|every| !every.is_zero()).unwrap_or(Duration::from_secs(20)),
        naming: Naming::WithNode,
    });
    let kubeconfig = flags.root_dir.join("kubeconfig");
    let asked_to_join = flags.kubeconfig.is_some() || flags.bootstrap_kubeconfig.is_some();
    let joins = asked_to_join || kubeconfig.exists() || manifests.is_none();
    let kubeconfig = flags.kubeconfig.clone().unwrap_or(kubeconfig);
    let mut pods = pods(&flags, &file).map_err(|(field, reason)| wrong(field, reason))?;
    let node = node(&flags, &file, &node_name).map_err(|(field, reason)| wrong(field, reason))?;
    if !joins && node.pod_cidr.is_none() {
        pods.network = Mode::Local;
    }
    Ok(AgentConfig {
        container_logs_dir: flags.container_log_dir.clone().unwrap_or_else(beside),
        api: joins.then(|| ApiConfig {
            kubeconfig,
            bootstrap_kubeconfig: flags.bootstrap_kubeconfig.clone(),
            context: flags.context.clone(),
        }),
        manifests,
        certificates: certificates(&file, &flags.root_dir).map_err(|(field, reason)| wrong(field, reason))?,
        server: server(&flags, &file),
        pods,
        node,
        node_name,
        pod_logs_dir,
        trace_starts: flags.trace_starts,
        store_dir: flags.root_dir.clone(),
        root_dir: flags.root_dir,
        run_dir: flags.run_dir,
    })
}

/// Fronts, certificates and logs outlive this process and its working directory.
fn with_absolute_paths(flags: NodeArgs) -> NodeArgs {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    NodeArgs {
        kubeconfig: flags.kubeconfig.map(absolute),
        bootstrap_kubeconfig: flags.bootstrap_kubeconfig.map(absolute),
        pod_manifest_path: flags.pod_manifest_path.map(absolute),
        root_dir: absolute(flags.root_dir),
        run_dir: absolute(flags.run_dir),
        log_dir: flags.log_dir.map(absolute),
        container_log_dir: flags.container_log_dir.map(absolute),
        registry_config_dir: flags.registry_config_dir.map(absolute),
        image_credential_provider_config: flags.image_credential_provider_config.map(absolute),
        image_credential_provider_bin_dir: flags.image_credential_provider_bin_dir.map(absolute),
        ..flags
    }
}

type Wrong = (String, String);

fn node(flags: &NodeArgs, file: &KubeletConfiguration, node_name: &str) -> Result<NodeConfig, Wrong> {
    let default = NodeConfig::default();
    let mut labels = default.labels.clone();
    labels.extend(flags.node_labels.iter().cloned());
    let taints =
        flags.register_with_taints.as_ref().map(|given| given.iter().filter_map(|taint| taint.0.clone()).collect());
    Ok(NodeConfig {
        ips: flags.node_ip.clone(),
        hostname: node_name.to_owned(),
        os_label: labels.remove(OS).unwrap_or(default.os_label),
        arch_label: labels.remove(ARCH).unwrap_or(default.arch_label),
        labels,
        taints: taints.or_else(|| file.register_with_taints.clone()).unwrap_or(default.taints),
        register: file.register_node.unwrap_or(default.register),
        unschedulable: !flags.register_schedulable.unwrap_or(true),
        provider_id: flags.provider_id.clone().or_else(|| file.provider_id.clone()),
        pod_cidr: flags.pod_cidr.clone().or_else(|| file.pod_cidr.clone()),
        max_pods: flags.max_pods.or(file.max_pods).unwrap_or(default.max_pods),
        pods_per_core: file.pods_per_core.unwrap_or(default.pods_per_core),
        reserved: sum(file.kube_reserved.as_ref(), file.system_reserved.as_ref()),
        eviction_hard: file.eviction_hard.as_ref().map_or(Ok(default.eviction_hard), eviction_hard)?,
        port: flags.port.or(file.port).unwrap_or(default.port),
        status_update_every: given(file.node_status_update_frequency).unwrap_or(default.status_update_every),
        status_report_every: given(file.node_status_report_frequency)
            .or(given(file.node_status_update_frequency))
            .unwrap_or(default.status_report_every),
        pressure_period: given(file.eviction_pressure_transition_period).unwrap_or(default.pressure_period),
        lease_seconds: file
            .node_lease_duration_seconds
            .and_then(|seconds| i32::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .unwrap_or(default.lease_seconds),
        max_images: file.node_status_max_images.map_or(default.max_images, |most| usize::try_from(most).ok()),
        declared_features: DECLARED_FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
        runtime_handlers: default.runtime_handlers,
    })
}

/// Zero is what a file says that leaves it to the kubelet (`SetDefaults_KubeletConfiguration`); kubeadm writes it.
fn given(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}

fn server(flags: &NodeArgs, file: &KubeletConfiguration) -> ServerConfig {
    let default = ServerConfig::default();
    let healthz_port = file.healthz_port.unwrap_or(10248);
    let healthz_address = file.healthz_bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    ServerConfig {
        address: flags.address.or(file.address).unwrap_or(default.address),
        port: flags.port.or(file.port).unwrap_or(default.port),
        healthz: (healthz_port != 0).then(|| SocketAddr::new(healthz_address, healthz_port)),
        client_ca: file.authentication.client_ca_file.clone(),
        token_review: file.authentication.webhook.unwrap_or(default.token_review),
        token_ttl: given(file.authentication.webhook_cache_ttl).unwrap_or(default.token_ttl),
        anonymous: file.authentication.anonymous.unwrap_or(default.anonymous),
        authorization: match (file.authorization.mode, default.authorization) {
            (Some(AuthorizationMode::AlwaysAllow), _) => Authorization::AlwaysAllow,
            (_, Authorization::Webhook { allowed_ttl, denied_ttl }) => Authorization::Webhook {
                allowed_ttl: given(file.authorization.cache_authorized_ttl).unwrap_or(allowed_ttl),
                denied_ttl: given(file.authorization.cache_unauthorized_ttl).unwrap_or(denied_ttl),
            },
            (_, Authorization::AlwaysAllow) => Authorization::AlwaysAllow,
        },
    }
}

fn certificates(file: &KubeletConfiguration, root_dir: &Path) -> Result<CertificatesConfig, Wrong> {
    let serving = match (file.tls_cert_file.clone(), file.tls_private_key_file.clone()) {
        (Some(certificate), Some(key)) => ServingSource::Files { certificate, key },
        (None, None) if file.server_tls_bootstrap == Some(true) => ServingSource::Signed,
        (None, None) => ServingSource::SelfSigned,
        (Some(_), None) => return Err(("tlsPrivateKeyFile".into(), "missing, but tlsCertFile is set".into())),
        (None, Some(_)) => return Err(("tlsCertFile".into(), "missing, but tlsPrivateKeyFile is set".into())),
    };
    Ok(CertificatesConfig {
        dir: root_dir.join("pki"),
        serving,
        rotate_client: file.rotate_certificates.unwrap_or(true),
    })
}

fn pods(flags: &NodeArgs, file: &KubeletConfiguration) -> Result<PodsConfig, Wrong> {
    let mut pods = PodsConfig::default();
    set(&mut pods.dns.servers, file.cluster_dns.clone());
    set(&mut pods.dns.domain, file.cluster_domain.clone().map(|domain| domain.trim_end_matches('.').to_owned()));
    set(&mut pods.resolv_conf, file.resolv_conf.clone());
    set(&mut pods.log_max_size, file.container_log_max_size);
    set(&mut pods.log_max_files, file.container_log_max_files);
    set(&mut pods.cgroup_root, file.cgroup_root.clone());
    set(&mut pods.restart_backoff, file.max_container_restart_period.map(Backoff::capped_at));
    set(&mut pods.events.per_second, file.event_record_qps);
    set(&mut pods.events.burst, file.event_burst);
    // The kubelet's own numbers for what is not said beside what is.
    pods.pulls.rate = file
        .registry_pull_qps
        .or(file.registry_burst)
        .map(|_| Rate { per_second: file.registry_pull_qps.unwrap_or(5), burst: file.registry_burst.unwrap_or(10) });
    pods.pulls.parallel = match (file.serialize_image_pulls, file.max_parallel_image_pulls) {
        (Some(true), _) => Some(1),
        (Some(false) | None, most) => most.and_then(|most| usize::try_from(most).ok()),
    };
    pods.images.registries.plain_http.extend(flags.plain_registry.iter().cloned());
    pods.images.registries.hosts_dir.clone_from(&flags.registry_config_dir);
    flags.limits.apply(&mut pods.images, &mut pods.compile);
    set(&mut pods.verification, file.image_verification.clone());
    pods.credentials = CredentialsConfig {
        docker: docker_configs(&flags.root_dir),
        plugins: flags.image_credential_provider_config.clone().zip(flags.image_credential_provider_bin_dir.clone()),
    };
    pods.image_gc = image_gc(file)?;
    Ok(pods)
}

/// With the kubelet's checks.
fn image_gc(file: &KubeletConfiguration) -> Result<ImageGcPolicy, Wrong> {
    let mut policy = ImageGcPolicy::default();
    set(&mut policy.high_percent, file.image_gc_high_threshold_percent);
    set(&mut policy.low_percent, file.image_gc_low_threshold_percent);
    set(&mut policy.min_age, file.image_minimum_gc_age.filter(|age| !age.is_zero()));
    set(&mut policy.max_age, file.image_maximum_gc_age);
    if policy.low_percent >= policy.high_percent {
        let (low, high) = (policy.low_percent, policy.high_percent);
        let reason = format!("{low} is not below imageGCHighThresholdPercent, which is {high}");
        return Err(("imageGCLowThresholdPercent".to_owned(), reason));
    }
    if !policy.max_age.is_zero() && policy.max_age <= policy.min_age {
        return Err(("imageMaximumGCAge".to_owned(), "must be more than imageMinimumGCAge".to_owned()));
    }
    Ok(policy)
}

/// Where the kubelet looks: its own directory, the home of who runs it, the root.
fn docker_configs(root_dir: &Path) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let mut files = vec![root_dir.join("config.json")];
    files.extend(home.map(|home| home.join(".docker/config.json")));
    files.push("/.docker/config.json".into());
    files.dedup();
    files
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn sum(a: Option<&ResourceList>, b: Option<&ResourceList>) -> ResourceList {
    let mut total = BTreeMap::new();
    for (name, amount) in a.into_iter().chain(b).flatten() {
        let so_far = total.get(name).map_or(0, Amount::milli_value);
        total.insert(name.clone(), Amount::milli(so_far.saturating_add(amount.milli_value())));
    }
    total
}

/// A signal that is not named keeps no threshold: the file's list replaces the default's, as the kubelet has it.
fn eviction_hard(signals: &BTreeMap<String, String>) -> Result<EvictionHard, Wrong> {
    let mut hard = EvictionHard::NONE;
    for (signal, text) in signals {
        let field = || format!("evictionHard.{signal}");
        let threshold = threshold(text).ok_or_else(|| {
            (field(), format!("expected an amount such as \"100Mi\" or a share such as \"10%\", found {text:?}"))
        })?;
        match signal.as_str() {
            "memory.available" => hard.memory_available = threshold,
            "nodefs.available" => hard.nodefs_available = threshold,
            "nodefs.inodesFree" => hard.nodefs_inodes_free = threshold,
            "imagefs.available" => hard.imagefs_available = threshold,
            // Images and volumes are on one file system here.
            "imagefs.inodesFree" => {}
            "pid.available" => hard.pid_available = threshold,
            _ => return Err((field(), "unknown signal".into())),
        }
    }
    Ok(hard)
}

fn threshold(text: &str) -> Option<Threshold> {
    match text.strip_suffix('%') {
        Some(share) => share.parse().ok().filter(|share| (0.0..=100.0).contains(share)).map(Threshold::Percent),
        None => u64::try_from(Amount::parse(text).ok()?.value()).ok().map(Threshold::Amount),
    }
}

/// An RFC 1123 subdomain.
fn is_node_name(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::images::PullLimits;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn merged(flags: &[&str], file: &str) -> Result<AgentConfig, ConfigError> {
        let head = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n";
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("kubelet.yaml");
        fs::write(&path, format!("{head}{file}")).expect("written");
        let path = path.display().to_string();
        let flags = ["node", "--config", &path, "--node-name", "n1"].into_iter().chain(flags.iter().copied());
        Cli::try_parse_from(flags).expect("right flags").node.into_config()
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let config = merged(&["--max-pods=7"], "maxPods: 5\nport: 1234\nclusterDomain: x.y.\n").expect("right");
        assert_eq!((config.node.max_pods, config.node.port, config.server.port), (7, 1234, 1234));
        assert_eq!(config.pods.dns.domain, "x.y");
        assert_eq!(config.node.lease_seconds, 40);
    }

    #[test]
    fn the_defaults_are_a_wasm_nodes() {
        let config = merged(&[], "").expect("right");
        assert_eq!((config.node.os_label.as_str(), config.node.arch_label.as_str()), ("wasi", "wasm32"));
        assert_eq!(config.node.labels, BTreeMap::from([("samara.dev/wasm".to_owned(), "true".to_owned())]));
        assert_eq!(config.node.taints.len(), 1);
        assert_eq!(config.pod_logs_dir, Path::new("/var/log/pods"));
        assert_eq!(config.container_logs_dir, Path::new("/var/log/containers"));
        assert_eq!(config.api.expect("it joins").kubeconfig, Path::new("/var/lib/samara/kubeconfig"));
        assert!(!config.server.anonymous && config.server.token_review);
    }

    #[test]
    fn images_are_collected_as_the_file_says_if_it_makes_sense() {
        let gc = |file: &str| merged(&[], file).map(|config| config.pods.image_gc);
        assert_eq!(gc("").expect("right"), ImageGcPolicy::default());
        let policy = gc("imageGCHighThresholdPercent: 50\nimageGCLowThresholdPercent: 40\nimageMaximumGCAge: 1h\n");
        let policy = policy.expect("right");
        assert_eq!((policy.high_percent, policy.low_percent, policy.max_age.as_secs()), (50, 40, 3600));
        for (file, field) in [
            ("imageGCHighThresholdPercent: 80\n", "imageGCLowThresholdPercent"),
            ("imageMaximumGCAge: 1m\n", "imageMaximumGCAge"),
        ] {
            let error = gc(file).expect_err(file).to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn credentials_are_looked_for_where_the_kubelet_looks_and_in_its_plugins() {
        let flags = [
            "--root-dir=/r",
            "--image-credential-provider-config=/c.yaml",
            "--image-credential-provider-bin-dir=/bin",
            "--registry-config-dir=/certs.d",
            "--compile-memory=1Gi",
        ];
        let pods = merged(&flags, "").expect("right").pods;
        assert_eq!(pods.credentials.plugins, Some(("/c.yaml".into(), "/bin".into())));
        assert_eq!(pods.credentials.docker.first().map(PathBuf::as_path), Some(Path::new("/r/config.json")));
        assert_eq!(pods.images.registries.hosts_dir.as_deref(), Some(Path::new("/certs.d")));
        assert_eq!(pods.compile.memory, 1 << 30);
        assert_eq!(merged(&[], "").expect("right").pods.credentials.plugins, None);
    }

    #[test]
    fn labels_and_taints_can_be_those_of_a_linux_node() {
        let config =
            merged(&["--node-labels=kubernetes.io/os=linux,a=b", "--register-with-taints="], "").expect("right");
        assert_eq!(config.node.os_label, "linux");
        assert_eq!(config.node.taints, []);
        assert_eq!(config.node.labels.get("a").map(String::as_str), Some("b"));
        assert!(!config.node.labels.contains_key(OS));
    }

    #[test]
    fn relative_directories_are_those_of_the_start() {
        let here = std::env::current_dir().expect("a directory");
        let config = merged(&["--root-dir=root", "--run-dir=./run", "--kubeconfig=k"], "").expect("right");
        assert_eq!((config.root_dir, config.run_dir), (here.join("root"), here.join("run")));
        let kubeconfig = config.api.expect("it joins").kubeconfig;
        assert_eq!((config.certificates.dir, kubeconfig), (here.join("root/pki"), here.join("k")));
    }

    #[test]
    fn a_node_with_manifests_and_without_a_kubeconfig_stands_alone() {
        let root = tempfile::tempdir().expect("a directory");
        let root_dir = format!("--root-dir={}", root.path().display());
        let merged = |flags: &[&str], file: &str| merged(&[&[&*root_dir], flags].concat(), file).expect("right");
        let alone = merged(&["--pod-manifest-path=/m"], "fileCheckFrequency: 3s\n");
        let manifests = alone.manifests.expect("they are there");
        assert_eq!((manifests.path.as_path(), manifests.every), (Path::new("/m"), Duration::from_secs(3)));
        assert_eq!((alone.api.is_none(), alone.pods.network), (true, Mode::Local));
        let with_range = merged(&["--pod-cidr=10.1.0.0/24"], "staticPodPath: /m\n");
        assert_eq!((with_range.api.is_none(), with_range.pods.network), (true, Mode::AnyIp));
        for flag in ["--kubeconfig=k", "--bootstrap-kubeconfig=k"] {
            let joined = merged(&[flag, "--pod-manifest-path=/m"], "");
            assert_eq!((joined.api.is_some(), joined.manifests.is_some()), (true, true), "{flag}");
        }
        assert!(merged(&[], "").api.is_some(), "what is missing is told when it is opened");
        fs::write(root.path().join("kubeconfig"), "").expect("written");
        assert!(merged(&["--pod-manifest-path=/m"], "").api.is_some(), "it has joined before");
    }

    #[test]
    fn reservations_add_up() {
        let file = "kubeReserved: {cpu: 100m, memory: 1Gi}\nsystemReserved: {cpu: '1', memory: 1Gi}\n";
        let reserved = merged(&[], file).expect("right").node.reserved;
        assert_eq!((reserved["cpu"].milli_value(), reserved["memory"].value()), (1100, 2 << 30));
    }

    #[test]
    fn how_often_and_how_many_is_the_files_to_say() {
        let pods = merged(&[], "").expect("right").pods;
        assert_eq!((pods.pulls, pods.events), (PullLimits::default(), Rate { per_second: 50, burst: 100 }));
        let rate = |per_second, burst| Some(Rate { per_second, burst });
        let table = [
            ("serializeImagePulls: true\n", PullLimits { rate: None, parallel: Some(1) }),
            ("serializeImagePulls: false\nmaxParallelImagePulls: 3\n", PullLimits { rate: None, parallel: Some(3) }),
            ("registryPullQPS: 2\n", PullLimits { rate: rate(2, 10), parallel: None }),
            ("registryPullQPS: 2\nregistryBurst: 4\n", PullLimits { rate: rate(2, 4), parallel: None }),
            ("registryBurst: 4\n", PullLimits { rate: rate(5, 4), parallel: None }),
        ];
        for (file, want) in table {
            assert_eq!(merged(&[], file).expect(file).pods.pulls, want, "{file}");
        }
        let file = "eventRecordQPS: 7\neventBurst: 8\ncrashLoopBackOff: {maxContainerRestartPeriod: 20s}\n";
        let pods = merged(&[], file).expect("right").pods;
        assert_eq!(pods.events, Rate { per_second: 7, burst: 8 });
        assert_eq!(pods.restart_backoff, Backoff::capped_at(std::time::Duration::from_secs(20)));
    }

    /// As `kubeadm init` writes it.
    #[test]
    fn zero_leaves_a_time_to_the_kubelets_default() {
        let zeros = "nodeStatusUpdateFrequency: 0s\nnodeStatusReportFrequency: 0s\nevictionPressureTransitionPeriod: 0s\n\
            authentication: {webhook: {cacheTTL: 0s}}\n\
            authorization: {webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}\n";
        let (zeros, nothing) = (merged(&[], zeros).expect("right"), merged(&[], "").expect("right"));
        assert_eq!(zeros.node.status_report_every, Duration::from_secs(300));
        assert_eq!(zeros.node.status_report_every, nothing.node.status_report_every);
        assert_eq!(zeros.node.status_update_every, nothing.node.status_update_every);
        assert_eq!(zeros.node.pressure_period, nothing.node.pressure_period);
        assert_eq!(zeros.server, nothing.server);
        let given =
            merged(&[], "nodeStatusUpdateFrequency: 20s\nevictionPressureTransitionPeriod: 30s\n").expect("right").node;
        assert_eq!(given.status_report_every, Duration::from_secs(20), "one that is set holds for both");
        assert_eq!(given.pressure_period, Duration::from_secs(30));
    }

    #[test]
    fn a_list_of_thresholds_replaces_the_default_one() {
        let hard = merged(&[], "evictionHard: {memory.available: 5%}\n").expect("right").node.eviction_hard;
        assert_eq!(hard, EvictionHard { memory_available: Threshold::Percent(5.0), ..EvictionHard::NONE });
    }

    #[test]
    fn a_wrong_value_names_file_field_and_reason() {
        let table = [
            ("maxPods: many\n", "maxPods"),
            ("evictionHard: {memory.available: lots}\n", "evictionHard.memory.available"),
            ("evictionHard: {memory.available: 101%}\n", "evictionHard.memory.available"),
            ("evictionHard: {cpu.available: 1%}\n", "evictionHard.cpu.available"),
            ("tlsCertFile: /x\n", "tlsPrivateKeyFile"),
        ];
        for (file, field) in table {
            let error = merged(&[], file).expect_err(file).to_string();
            assert!(error.contains("kubelet.yaml: ") && error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/kubelet.yaml")).expect_err("missing").to_string();
        assert!(error.contains("/nonexistent/kubelet.yaml"), "{error}");
    }

    #[test]
    fn a_node_name_is_a_dns_name() {
        let longest = [["a"; 63].concat(), ["b"; 63].concat(), ["c"; 63].concat(), ["d"; 61].concat()].join(".");
        for (name, right) in
            [("n1", true), ("a.b-c", true), (&longest, true), ("", false), ("a_b", false), ("-a", false), ("a.", false)]
        {
            assert_eq!(is_node_name(name), right, "{name}");
        }
    }
}
