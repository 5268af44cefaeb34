use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapEnvSource, ConfigMapKeySelector, EnvVar, ObjectFieldSelector, ResourceFieldSelector, Secret,
    SecretEnvSource, SecretKeySelector, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{PodExt, container, pod, sized};
use crate::quantity::Amount;

fn service(namespace: &str, name: &str, address: &str, ports: &[(&str, i32)]) -> Arc<Service> {
    let ports = ports.iter().map(|(name, port)| ServicePort {
        name: (!name.is_empty()).then(|| (*name).to_owned()),
        port: *port,
        ..ServicePort::default()
    });
    Arc::new(Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some(address.to_owned()),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

fn objects() -> Objects {
    let map = ConfigMap {
        data: Some([("colour", "red"), ("size", "9")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        ..ConfigMap::default()
    };
    let secret = Secret {
        data: Some(
            [("password", &b"hush"[..]), ("raw", &[0xff]), ("nul", b"a\0b")]
                .map(|(k, v)| (k.to_owned(), ByteString(v.to_vec())))
                .into(),
        ),
        ..Secret::default()
    };
    let mut objects = Objects::default();
    objects.config_maps.insert("settings".to_owned(), Ok(Arc::new(map)));
    objects.secrets.insert("login".to_owned(), Ok(Arc::new(secret)));
    objects
}

fn made(container: Container, objects: &Objects) -> Result<Environment, String> {
    let allocatable =
        ResourceList::from([("cpu".to_owned(), Amount::units(4)), ("memory".to_owned(), Amount::bytes(8 << 30))]);
    let sources = Sources {
        objects,
        pod_ips: &["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        host_ips: &["192.0.2.1".parse().unwrap()],
        allocatable: &allocatable,
    };
    let mut pod = pod("web").spec(|spec| spec.service_account_name = Some("default".to_owned()));
    pod.metadata.annotations = Some([("team".to_owned(), "blue".to_owned())].into());
    environment(&pod, &container, &sources).map_err(|error| error.to_string())
}

fn pairs(environment: Environment) -> Vec<(String, String)> {
    environment.into_iter().collect()
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

fn from(name: &str, source: EnvVarSource) -> EnvVar {
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

fn map_key(name: &str, key: &str, optional: bool) -> EnvVarSource {
    EnvVarSource {
        config_map_key_ref: Some(ConfigMapKeySelector {
            name: name.to_owned(),
            key: key.to_owned(),
            optional: Some(optional),
        }),
        ..EnvVarSource::default()
    }
}

fn secret_key(name: &str, key: &str, optional: bool) -> EnvVarSource {
    EnvVarSource {
        secret_key_ref: Some(SecretKeySelector {
            name: name.to_owned(),
            key: key.to_owned(),
            optional: Some(optional),
        }),
        ..EnvVarSource::default()
    }
}

fn env_from_map(name: &str, prefix: &str, optional: bool) -> EnvFromSource {
    EnvFromSource {
        prefix: Some(prefix.to_owned()),
        config_map_ref: Some(ConfigMapEnvSource { name: name.to_owned(), optional: Some(optional) }),
        ..EnvFromSource::default()
    }
}

fn with(env: Vec<EnvVar>) -> Container {
    Container { env: Some(env), ..container("app") }
}

#[test]
fn variables_are_expanded_against_what_came_before() {
    let environment = made(
        with(vec![
            value("A", "1"),
            value("B", "$(A)-$(C)"),
            value("C", "3"),
            value("D", "$$(A) $(A)$(B) $("),
            value("A", "$(A)1"),
        ]),
        &Objects::default(),
    );
    let expected = [("A", "11"), ("B", "1-$(C)"), ("C", "3"), ("D", "$(A) 11-$(C) $(")];
    assert_eq!(pairs(environment.unwrap()), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn text_is_expanded_as_kubernetes_does() {
    let variables = [("A".to_owned(), "1".to_owned()), ("E".to_owned(), String::new())].into();
    for (text, expanded) in [
        ("", ""),
        ("$", "$"),
        ("$$", "$"),
        ("$$$", "$$"),
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(E)x", "x"),
        ("$(B)", "$(B)"),
        ("$()", "$()"),
        ("$(A", "$(A"),
        ("$A $x", "$A $x"),
        ("ä$(A)ö", "ä1ö"),
        ("$($(A))", "$($(A))"),
    ] {
        assert_eq!(expand(text, &variables), expanded, "{text}");
    }
}

#[test]
fn env_wins_over_env_from_and_a_later_source_over_an_earlier_one() {
    let secret = EnvFromSource {
        secret_ref: Some(SecretEnvSource { name: "word".to_owned(), optional: None }),
        ..EnvFromSource::default()
    };
    let mut objects = objects();
    let word = Secret { data: Some([("colour".to_owned(), ByteString(b"blue".to_vec()))].into()), ..Secret::default() };
    objects.secrets.insert("word".to_owned(), Ok(Arc::new(word)));
    let container = Container {
        env_from: Some(vec![env_from_map("settings", "", false), secret, env_from_map("settings", "MY_", false)]),
        env: Some(vec![value("size", "$(MY_size)0")]),
        ..container("app")
    };
    let expected = [("MY_colour", "red"), ("MY_size", "9"), ("colour", "blue"), ("size", "90")];
    assert_eq!(pairs(made(container, &objects).unwrap()), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn what_is_missing_is_named_unless_it_is_optional() {
    let objects = objects();
    for (source, error) in [
        (map_key("none", "x", false), "configmap \"none\" not found"),
        (secret_key("none", "x", false), "secret \"none\" not found"),
        (map_key("settings", "x", false), "couldn't find key x in ConfigMap default/settings"),
        (secret_key("login", "x", false), "couldn't find key x in Secret default/login"),
        (secret_key("login", "raw", true), "value of environment variable V is not UTF-8"),
        (secret_key("login", "nul", true), "environment variable V holds a NUL byte"),
    ] {
        assert_eq!(made(with(vec![from("V", source)]), &objects).unwrap_err(), error);
    }
    for source in [map_key("none", "x", true), secret_key("none", "x", true), map_key("settings", "x", true)] {
        assert_eq!(made(with(vec![from("V", source)]), &objects), Ok(Environment::new()));
    }
    let whole = |optional| Container { env_from: Some(vec![env_from_map("none", "", optional)]), ..container("app") };
    assert_eq!(made(whole(false), &objects).unwrap_err(), "configmap \"none\" not found");
    assert_eq!(made(whole(true), &objects), Ok(Environment::new()));
    let failed = FetchError::Failed("configmaps \"none\" is forbidden".to_owned());
    let closed = Objects { config_maps: [("none".to_owned(), Err(failed))].into(), ..Objects::default() };
    assert_eq!(made(whole(true), &closed).unwrap_err(), "configmaps \"none\" is forbidden");
}

#[test]
fn fields_of_the_pod_are_told() {
    let field = |path: &str| EnvVarSource {
        field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), api_version: Some("v1".to_owned()) }),
        ..EnvVarSource::default()
    };
    for (path, expected) in [
        ("metadata.name", Ok("web")),
        ("metadata.namespace", Ok("default")),
        ("metadata.uid", Ok("uid-web")),
        ("metadata.annotations['team']", Ok("blue")),
        ("metadata.labels['none']", Ok("")),
        ("spec.nodeName", Ok("node-1")),
        ("spec.serviceAccountName", Ok("default")),
        ("status.hostIP", Ok("192.0.2.1")),
        ("status.podIP", Ok("10.0.0.7")),
        ("status.podIPs", Ok("10.0.0.7,fd00::7")),
        ("metadata.colour", Err("field label not supported: metadata.colour")),
        ("spec.x['y']", Err("field label does not support subscript: spec.x['y']")),
    ] {
        let made = made(with(vec![from("V", field(path))]), &Objects::default());
        assert_eq!(made.map(|made| made["V"].clone()), expected.map(str::to_owned).map_err(str::to_owned));
    }
}

#[test]
fn resources_are_divided_and_rounded_up_and_default_to_the_nodes() {
    let resource = |resource: &str, divisor: &str| EnvVarSource {
        resource_field_ref: Some(ResourceFieldSelector {
            container_name: None,
            resource: resource.to_owned(),
            divisor: (!divisor.is_empty()).then(|| Quantity(divisor.to_owned())),
        }),
        ..EnvVarSource::default()
    };
    for (name, divisor, expected) in [
        ("limits.cpu", "", Ok("2")),
        ("limits.cpu", "1m", Ok("1500")),
        ("limits.cpu", "0", Ok("2")),
        ("requests.cpu", "", Ok("0")),
        ("limits.memory", "", Ok("8589934592")),
        ("limits.memory", "1Gi", Ok("8")),
        ("limits.memory", "3Gi", Ok("3")),
        ("requests.memory", "1Mi", Ok("64")),
        ("limits.colour", "", Err("unsupported container resource : limits.colour")),
        ("cpu", "", Err("unsupported container resource : cpu")),
        ("limits.cpu", "some", Err("invalid divisor \"some\" of resource limits.cpu")),
        ("limits.cpu", "-1", Err("invalid divisor \"-1\" of resource limits.cpu")),
    ] {
        let container = Container {
            env: Some(vec![from("V", resource(name, divisor))]),
            ..sized("app", &[("memory", "64Mi")], &[("cpu", "1500m")])
        };
        let made = made(container, &Objects::default());
        assert_eq!(made.map(|made| made["V"].clone()), expected.map(str::to_owned).map_err(str::to_owned), "{name}");
    }
}

#[test]
fn services_give_variables_and_can_be_used_in_values() {
    let services = vec![
        service("default", "kubernetes", "10.96.0.1", &[("https", 443)]),
        service("default", "my-db", "fd00::1", &[("", 5432)]),
        service("default", "headless", "None", &[("", 80)]),
        service("other", "kubernetes", "10.9.9.9", &[("", 1)]),
    ];
    let objects = Objects { services, ..Objects::default() };
    let environment = made(with(vec![value("URL", "https://$(KUBERNETES_SERVICE_HOST)")]), &objects).unwrap();
    insta::assert_yaml_snapshot!(environment);
}

#[test]
fn without_service_links_only_the_api_server_is_told() {
    let objects = Objects {
        services: vec![
            service("default", "kubernetes", "10.96.0.1", &[("https", 443)]),
            service("shop", "db", "10.96.0.2", &[("", 5432)]),
        ],
        ..Objects::default()
    };
    let names = |links: bool| {
        let pod = pod("web").change(|pod| pod.metadata.namespace = Some("shop".to_owned()));
        let pod = pod.spec(|spec| spec.enable_service_links = Some(links));
        let allocatable = ResourceList::new();
        let sources = Sources { objects: &objects, pod_ips: &[], host_ips: &[], allocatable: &allocatable };
        let environment = environment(&pod, &container("app"), &sources).unwrap();
        (environment.contains_key("KUBERNETES_SERVICE_HOST"), environment.contains_key("DB_SERVICE_HOST"))
    };
    assert_eq!(names(true), (true, true));
    assert_eq!(names(false), (true, false));
}

#[test]
fn a_sub_path_expression_needs_all_its_variables() {
    let variables = [("POD".to_owned(), "web".to_owned())].into();
    assert_eq!(expand_sub_path("logs/$(POD)", &variables), Ok("logs/web".to_owned()));
    let error = expand_sub_path("$(A)/$(POD)/$(B)", &variables).unwrap_err().to_string();
    assert_eq!(error, "missing value for [\"A\", \"B\"] in subPathExpr \"$(A)/$(POD)/$(B)\"");
}

proptest! {
    #[test]
    fn no_text_makes_expansion_panic_and_text_without_dollars_stays(text in "[$()A-Bä ]{0,40}") {
        let variables = [("A".to_owned(), "1".to_owned())].into();
        let expanded = expand(&text, &variables);
        if !text.contains('$') {
            prop_assert_eq!(expanded, text);
        }
    }
}
