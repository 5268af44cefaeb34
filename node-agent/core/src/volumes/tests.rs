use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIProjection, DownwardAPIVolumeSource,
    EnvFromSource, EnvVar, EnvVarSource, LocalObjectReference, ObjectFieldSelector, PodSecurityContext,
    ResourceFieldSelector, Secret, SecretEnvSource, SecretKeySelector, SecretProjection, SecretVolumeSource,
    ServiceAccountTokenProjection, VolumeProjection,
};

use super::*;
use crate::fixtures::{PodExt, container, pod, sized};
use crate::quantity::Amount;

fn objects() -> Objects {
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let binary =
        |pairs: &[(&str, &[u8])]| pairs.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.to_vec()))).collect();
    let map = ConfigMap {
        data: Some(text(&[("a", "1"), ("b", "2")])),
        binary_data: Some(binary(&[("bin", &[0, 255])])),
        ..ConfigMap::default()
    };
    let secret = Secret { data: Some(binary(&[("password", b"hush")])), ..Secret::default() };
    let mut objects = Objects::default();
    objects.config_maps.insert("settings".to_owned(), Ok(Arc::new(map)));
    objects.secrets.insert("login".to_owned(), Ok(Arc::new(secret)));
    objects.secrets.insert("closed".to_owned(), Err(FetchError::Failed("secrets \"closed\" is forbidden".to_owned())));
    objects
}

fn made(pod: &Pod, volume: &Volume) -> Result<Vec<(String, String, u32)>, String> {
    let objects = objects();
    let tokens =
        BTreeMap::from([(TokenRequest { audience: String::new(), expiration_seconds: 3607 }, "token".to_owned())]);
    let allocatable = ResourceList::from([("cpu".to_owned(), Amount::units(4))]);
    let sources = Sources {
        objects: &objects,
        host_ips: &["192.0.2.1".parse().unwrap()],
        pod_ips: &["10.0.0.7".parse().unwrap()],
        allocatable: &allocatable,
        tokens: &tokens,
    };
    let files = project(pod, volume, &sources).map_err(|error| error.to_string())?;
    let text = |file: &File| String::from_utf8_lossy(&file.bytes).into_owned();
    Ok(files.iter().map(|(path, file)| (path.clone(), text(file), file.mode)).collect())
}

fn file(path: &str, text: &str, mode: u32) -> (String, String, u32) {
    (path.to_owned(), text.to_owned(), mode)
}

fn item(key: &str, path: &str, mode: Option<i32>) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode }
}

fn config_map(name: &str, items: Vec<KeyToPath>, optional: bool) -> Volume {
    let source = ConfigMapVolumeSource {
        name: name.to_owned(),
        items: Some(items),
        optional: Some(optional),
        default_mode: None,
    };
    Volume { name: "v".to_owned(), config_map: Some(source), ..Volume::default() }
}

fn secret(name: &str, items: Vec<KeyToPath>, optional: bool) -> Volume {
    let source = SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        items: Some(items),
        optional: Some(optional),
        default_mode: Some(0o400),
    };
    Volume { name: "v".to_owned(), secret: Some(source), ..Volume::default() }
}

fn projected(sources: Vec<VolumeProjection>) -> Volume {
    let source = ProjectedVolumeSource { sources: Some(sources), default_mode: None };
    Volume { name: "v".to_owned(), projected: Some(source), ..Volume::default() }
}

#[test]
fn all_keys_are_files_with_the_default_mode() {
    let web = pod("web");
    assert_eq!(
        made(&web, &config_map("settings", vec![], false)).unwrap(),
        [file("a", "1", 0o644), file("b", "2", 0o644), file("bin", "\0\u{fffd}", 0o644)]
    );
    assert_eq!(made(&web, &secret("login", vec![], false)).unwrap(), [file("password", "hush", 0o400)]);
}

#[test]
fn items_choose_keys_paths_and_modes() {
    let items = vec![item("a", "deep/./er//x", Some(0o600)), item("b", "y", None)];
    let files = made(&pod("web"), &config_map("settings", items, false)).unwrap();
    assert_eq!(files, [file("deep/er/x", "1", 0o600), file("y", "2", 0o644)]);
}

#[test]
fn what_is_missing_is_named_unless_it_is_optional() {
    let web = pod("web");
    let missing_key = || vec![item("nope", "x", None)];
    for (volume, error) in [
        (config_map("none", vec![], false), "configmap \"none\" not found"),
        (secret("none", vec![], false), "secret \"none\" not found"),
        (config_map("settings", missing_key(), false), "configmap references non-existent config key: nope"),
        (secret("login", missing_key(), false), "references non-existent secret key: nope"),
        (secret("closed", vec![], true), "secrets \"closed\" is forbidden"),
    ] {
        assert_eq!(made(&web, &volume).unwrap_err(), error);
    }
    for volume in [
        config_map("none", missing_key(), true),
        secret("none", vec![], true),
        config_map("settings", missing_key(), true),
        secret("login", missing_key(), true),
    ] {
        assert_eq!(made(&web, &volume).unwrap(), []);
    }
}

#[test]
fn no_path_leaves_the_volume() {
    for (path, error) in [
        ("/etc/passwd", "invalid path: must be relative path: /etc/passwd"),
        ("../x", "invalid path: must not contain '..': ../x"),
        ("a/../../x", "invalid path: must not contain '..': a/../../x"),
        ("..data", "invalid path: must not start with '..': ..data"),
        ("", "invalid path: must not be empty: "),
        ("./.", "invalid path: must not be empty: ./."),
        ("a\0b", "invalid path: must not contain a NUL byte: a\0b"),
    ] {
        let volume = config_map("settings", vec![item("a", path, None)], false);
        assert_eq!(made(&pod("web"), &volume).unwrap_err(), error);
    }
    let long = config_map("settings", vec![item("a", &"x".repeat(4097), None)], false);
    assert!(made(&pod("web"), &long).unwrap_err().contains("less than or equal to 4096 characters"));
}

#[test]
fn a_file_cannot_be_another_files_directory() {
    let both = |first: &str, second: &str| {
        made(&pod("web"), &config_map("settings", vec![item("a", first, None), item("b", second, None)], false))
    };
    assert!(both("x", "x/y").unwrap_err().contains("must not be a directory of another file: x"));
    assert!(both("x", "x.y").is_ok());
    assert!(both("x/a", "x/b").is_ok());
}

#[test]
fn the_downward_api_tells_fields_and_resources() {
    let field = |path: &str, field: &str| DownwardAPIVolumeFile {
        path: path.to_owned(),
        field_ref: Some(ObjectFieldSelector { field_path: field.to_owned(), api_version: None }),
        ..DownwardAPIVolumeFile::default()
    };
    let cpu = DownwardAPIVolumeFile {
        path: "cpu".to_owned(),
        mode: Some(0o600),
        resource_field_ref: Some(ResourceFieldSelector {
            container_name: Some("app".to_owned()),
            resource: "limits.cpu".to_owned(),
            divisor: None,
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let volume = |items| Volume {
        downward_api: Some(DownwardAPIVolumeSource { items: Some(items), default_mode: None }),
        ..Volume::default()
    };
    let mut labelled = pod("web").container("app");
    labelled.metadata.labels = Some([("a", "x\"y"), ("b", "z")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let files = made(&labelled, &volume(vec![field("labels", "metadata.labels"), field("name", "metadata.name"), cpu]));
    assert_eq!(
        files.unwrap(),
        [file("cpu", "4", 0o600), file("labels", "a=\"x\\\"y\"\nb=\"z\"", 0o644), file("name", "web", 0o644)]
    );
    let wrong = volume(vec![field("x", "metadata.colour"), field("y", "status.mood")]);
    assert_eq!(
        made(&labelled, &wrong).unwrap_err(),
        "[field label not supported: metadata.colour, field label not supported: status.mood]"
    );
}

fn token_source() -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: None,
            expiration_seconds: Some(3607),
            path: "token".to_owned(),
        }),
        ..VolumeProjection::default()
    }
}

fn kube_api_access() -> Volume {
    let ca = ConfigMapProjection {
        name: "settings".to_owned(),
        items: Some(vec![item("a", "ca.crt", None)]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector { field_path: "metadata.namespace".to_owned(), api_version: None }),
        ..DownwardAPIVolumeFile::default()
    };
    projected(vec![
        token_source(),
        VolumeProjection { config_map: Some(ca), ..VolumeProjection::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..VolumeProjection::default()
        },
    ])
}

#[test]
fn the_volume_of_every_pods_service_account_is_made() {
    let files = made(&pod("web"), &kube_api_access()).unwrap();
    assert_eq!(files, [file("ca.crt", "1", 0o644), file("namespace", "default", 0o644), file("token", "token", 0o644)]);
    let grouped = pod("web").spec(|spec| {
        spec.security_context = Some(PodSecurityContext { fs_group: Some(7), ..PodSecurityContext::default() });
    });
    let files = made(&grouped, &kube_api_access()).unwrap();
    assert_eq!(files.iter().find(|file| file.0 == "token"), Some(&file("token", "token", 0o600)));
}

#[test]
fn all_errors_of_a_projected_volume_are_told_and_later_sources_win() {
    let config = |name: &str| VolumeProjection {
        config_map: Some(ConfigMapProjection { name: name.to_owned(), ..ConfigMapProjection::default() }),
        ..VolumeProjection::default()
    };
    let broken = projected(vec![config("one"), config("two")]);
    assert_eq!(made(&pod("web"), &broken).unwrap_err(), "[configmap \"one\" not found, configmap \"two\" not found]");
    let secret =
        SecretProjection { name: "login".to_owned(), items: Some(vec![item("password", "a", None)]), optional: None };
    let secret = VolumeProjection { secret: Some(secret), ..VolumeProjection::default() };
    let files = made(&pod("web"), &projected(vec![config("settings"), secret])).unwrap();
    assert_eq!(files[0], file("a", "hush", 0o644));
}

#[test]
fn a_token_that_was_not_requested_is_an_error() {
    let mut source = token_source();
    source.service_account_token.as_mut().unwrap().audience = Some("vault".to_owned());
    assert_eq!(
        made(&pod("web"), &projected(vec![source])).unwrap_err(),
        "no token for audience \"vault\" was requested"
    );
}

#[test]
fn every_object_that_a_pod_reads_is_listed_once() {
    let mut app = container("app");
    app.env_from = Some(vec![EnvFromSource {
        secret_ref: Some(SecretEnvSource { name: "env-secret".to_owned(), optional: Some(true) }),
        ..EnvFromSource::default()
    }]);
    app.env = Some(vec![EnvVar {
        name: "X".to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name: "login".to_owned(), ..SecretKeySelector::default() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }]);
    let pod = pod("web").with(app).spec(|spec| {
        spec.volumes = Some(vec![kube_api_access(), config_map("more", vec![], true), secret("login", vec![], false)]);
        spec.image_pull_secrets = Some(vec![LocalObjectReference { name: "registry".to_owned() }]);
    });
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        references(&pod),
        References {
            config_maps: names(&["more", "settings"]),
            secrets: names(&["env-secret", "login"]),
            image_pull_secrets: names(&["registry"]),
            persistent_volume_claims: names(&[]),
        }
    );
    let request = TokenRequest { audience: String::new(), expiration_seconds: 3607 };
    assert_eq!(token_requests(&pod), [("v".to_owned(), request)]);
    assert_eq!(references(&Pod::default()), References::default());
}

#[test]
fn a_volume_that_is_no_projection_has_no_files() {
    assert!(!is_projection(&Volume::default()));
    assert!(is_projection(&kube_api_access()));
    assert_eq!(made(&pod("web").with(sized("app", &[], &[])), &Volume::default()).unwrap(), []);
}
