use super::*;
use crate::quantity::Amount;

const HEAD: &str = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n";

fn read(text: &str) -> Parsed {
    parse(&format!("{HEAD}{text}")).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    parse(&format!("{HEAD}{text}")).unwrap_err().to_string()
}

#[test]
fn a_file_that_says_nothing_sets_nothing() {
    assert_eq!(read(""), Parsed::default());
    assert_eq!(read("maxPods: null\nauthentication:\n"), Parsed::default());
}

#[test]
fn every_honoured_field_is_read() {
    let parsed = read(
        "address: 0.0.0.0\nport: 10250\nmaxPods: 250\nclusterDNS: [10.96.0.10, 'fd00::a']\nclusterDomain: cluster.local\n\
         serverTLSBootstrap: true\nnodeStatusUpdateFrequency: 10s\nnodeStatusReportFrequency: 5m0s\n\
         kubeReserved: {cpu: 100m, memory: 1Gi}\nevictionHard: {memory.available: 100Mi, nodefs.available: 10%}\n\
         containerLogMaxSize: 10Mi\ncontainerLogMaxFiles: 5\nresolvConf: /etc/resolv.conf\n\
         registerWithTaints: [{key: a, value: b, effect: NoSchedule}]\n\
         authentication: {anonymous: {enabled: false}, webhook: {enabled: true, cacheTTL: 2m}, x509: {clientCAFile: /ca.crt}}\n\
         authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 5m, cacheUnauthorizedTTL: 30s}}\n\
         crashLoopBackOff: {maxContainerRestartPeriod: 1m}\n",
    );
    assert_eq!(parsed.warnings, Vec::<String>::new());
    let config = parsed.config;
    assert_eq!(config.max_pods, Some(250));
    assert_eq!(config.port, Some(10250));
    assert_eq!(config.cluster_dns.unwrap().len(), 2);
    assert_eq!(config.node_status_report_frequency, Some(Duration::from_secs(300)));
    assert_eq!(config.kube_reserved.unwrap()["cpu"], Amount::milli(100));
    assert_eq!(config.eviction_hard.unwrap()["nodefs.available"], "10%");
    assert_eq!(config.container_log_max_size, Some(10 << 20));
    assert_eq!(config.register_with_taints.unwrap()[0].effect, "NoSchedule");
    assert_eq!(config.authentication.client_ca_file, Some("/ca.crt".into()));
    assert_eq!(config.authentication.webhook_cache_ttl, Some(Duration::from_secs(120)));
    assert_eq!(config.authorization.mode, Some(AuthorizationMode::Webhook));
    assert_eq!(config.max_container_restart_period, Some(Duration::from_secs(60)));
}

#[test]
fn what_becomes_of_images_is_read() {
    let config = read(
        "imageMinimumGCAge: 1m\nimageMaximumGCAge: 24h\nimageGCHighThresholdPercent: 90\nimageGCLowThresholdPercent: 70\n\
         imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: [r.test/base/*]\n",
    )
    .config;
    assert_eq!(config.image_minimum_gc_age, Some(Duration::from_secs(60)));
    assert_eq!(config.image_maximum_gc_age, Some(Duration::from_secs(86_400)));
    assert_eq!((config.image_gc_high_threshold_percent, config.image_gc_low_threshold_percent), (Some(90), Some(70)));
    let list = Allowlist::parse(vec!["r.test/base/*".to_owned()]).unwrap();
    assert_eq!(config.image_verification, Some(VerificationPolicy::NeverVerifyAllowlistedImages(list)));
    for (text, named) in [
        ("imageGCHighThresholdPercent: 101\n", "between 0 and 100"),
        ("imagePullCredentialsVerificationPolicy: Sometimes\n", "found \"Sometimes\""),
        ("preloadedImagesVerificationAllowlist: [a.test/b]\n", "only for"),
        (
            "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: ['*']\n",
            "neither an image",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn unknown_fields_are_told_with_their_paths() {
    let parsed = read(
        "cgroupDriver: systemd\nmaxPods: 5\nauthentication: {webhook: {colour: red}, oidc: {}}\ncrashLoopBackOff: {x: 1}\n",
    );
    assert_eq!(parsed.config.max_pods, Some(5));
    let paths = ["authentication.oidc", "authentication.webhook.colour", "cgroupDriver", "crashLoopBackOff.x"];
    assert_eq!(parsed.warnings, paths.map(|path| format!("{path}: unknown or not honoured by this node")));
}

#[test]
fn a_wrong_value_is_told_with_field_and_reason() {
    for (text, error) in [
        ("maxPods: many", "maxPods: expected a whole number, found \"many\""),
        ("maxPods: -1", "maxPods: -1 is not between 0 and 2147483647"),
        ("maxPods: 1.5", "maxPods: expected a whole number, found 1.5"),
        ("port: 70000", "port: 70000 is not between 0 and 65535"),
        ("address: localhost", "address: expected an IP address, found \"localhost\""),
        ("serverTLSBootstrap: 'yes'", "serverTLSBootstrap: expected true or false, found \"yes\""),
        ("authentication: [a]", "authentication: expected a mapping, found a list"),
        ("authorization: {mode: RBAC}", "authorization.mode: expected \"AlwaysAllow\" or \"Webhook\", found \"RBAC\""),
        ("authentication: {webhook: {cacheTTL: 10}}", "authentication.webhook.cacheTTL: expected text, found 10"),
        (
            "nodeStatusUpdateFrequency: soon",
            "nodeStatusUpdateFrequency: expected a duration such as \"1m30s\", found \"soon\"",
        ),
        ("kubeReserved: {cpu: lots}", "kubeReserved.cpu: invalid quantity \"lots\": it has no digits"),
        ("systemReserved: {memory: -1Gi}", "systemReserved.memory: \"-1Gi\" is less than nothing"),
        ("containerLogMaxFiles: 1", "containerLogMaxFiles: must be at least 2"),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 301s}",
            "crashLoopBackOff.maxContainerRestartPeriod: must be between 1s and 300s",
        ),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 10ms}",
            "crashLoopBackOff.maxContainerRestartPeriod: must be between 1s and 300s",
        ),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
}

#[test]
fn a_file_that_is_something_else_is_refused() {
    for (text, error) in [
        ("", "(document): expected a mapping, found nothing"),
        ("[1]", "(document): expected a mapping, found a list"),
        ("kind: Pod", "kind: expected \"KubeletConfiguration\", found \"Pod\""),
        ("kind: KubeletConfiguration", "apiVersion: missing, expected \"kubelet.config.k8s.io/v1beta1\""),
        ("{}", "kind: missing, expected \"KubeletConfiguration\""),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), error, "{text}");
    }
    assert_eq!(parse("a: [").unwrap_err().field, "(document)");
    assert_eq!(parse("maxPods: 1\nmaxPods: 2").unwrap_err().field, "(document)");
}

#[test]
fn json_is_read_too() {
    let text = r#"{"kind":"KubeletConfiguration","apiVersion":"kubelet.config.k8s.io/v1beta1","maxPods":7}"#;
    assert_eq!(parse(text).unwrap().config.max_pods, Some(7));
}

/// `a.b.c` with nothing for a value.
fn with_field(path: &str) -> String {
    let lines = path.split('.').enumerate().map(|(depth, name)| format!("{}{name}:\n", "  ".repeat(depth)));
    lines.collect()
}

#[test]
fn every_field_that_the_documentation_names_is_honoured() {
    let text = include_str!("../../../../docs/node.md");
    let (_, section) = text.split_once("## What of the configuration file is honoured").unwrap();
    let (table, _) = section.split_once("\nThey mean").unwrap();
    let fields: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
    assert!(fields.len() > 40 && fields.contains(&"crashLoopBackOff.maxContainerRestartPeriod"), "{fields:?}");
    for field in fields {
        assert_eq!(read(&with_field(field)).warnings, Vec::<String>::new(), "{field}");
    }
    assert_eq!(read(&with_field("authentication.noSuchField")).warnings.len(), 1);
}
