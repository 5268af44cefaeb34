use k8s_openapi::api::core::v1::{Capabilities, ContainerPort, PodSecurityContext, SeccompProfile, SecurityContext};
use oci_spec::runtime::Capability;
use serde_json::Value;

use super::*;
use crate::fixtures::{PodExt, container, pod, sized};

/// What a test changes of a request.
struct Given {
    pod: Pod,
    image: ImageConfig,
    environment: Environment,
    network: PodNetwork,
}

impl Given {
    fn new(container: Container) -> Self {
        Self {
            pod: pod("web").with(container),
            image: ImageConfig { entrypoint: vec!["/app.wasm".to_owned()], ..ImageConfig::default() },
            environment: Environment::new(),
            network: PodNetwork { hostname: "web".to_owned(), ..PodNetwork::default() },
        }
    }

    fn spec(&self) -> Result<Spec, SpecError> {
        spec(&Request {
            pod: &self.pod,
            container: &self.pod.spec.as_ref().unwrap().containers[0],
            attempt: 2,
            image: &self.image,
            environment: &self.environment,
            mounts: &[],
            network: &self.network,
            cgroups_path: "/samara/poduid-web/0123",
            node_memory: 16 << 30,
        })
    }

    #[track_caller]
    fn args(&self) -> Vec<String> {
        self.spec().unwrap().process().as_ref().unwrap().args().clone().unwrap()
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// As JSON with sets in order.
fn golden(spec: &Spec) -> Value {
    let mut value = serde_json::to_value(spec).unwrap();
    if let Some(sets) = value.pointer_mut("/process/capabilities").and_then(Value::as_object_mut) {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by_key(Value::to_string);
        }
    }
    value
}

#[test]
fn a_full_request_becomes_this_spec() {
    let limits = [("cpu", "500m"), ("memory", "64Mi")];
    let app = Container {
        command: Some(strings(&["/bin/server", "--name=$(POD)"])),
        args: Some(strings(&["$(PORT)", "$$(PORT)"])),
        working_dir: Some("/srv".to_owned()),
        ports: Some(vec![
            ContainerPort { container_port: 53, protocol: Some("UDP".to_owned()), ..ContainerPort::default() },
            ContainerPort { container_port: 9000, ..ContainerPort::default() },
        ]),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            run_as_group: Some(3000),
            capabilities: Some(Capabilities { add: Some(strings(&["NET_ADMIN"])), drop: Some(strings(&["ALL"])) }),
            ..SecurityContext::default()
        }),
        ..sized("app", &[("cpu", "250m")], &limits)
    };
    let mut given = Given::new(app);
    given.pod = given.pod.change(|pod| {
        pod.metadata.annotations = Some(
            [
                ("samara.dev/http-request-timeout-seconds", "5"),
                ("samara.dev/guest.epochs", "on"),
                ("samara.dev/pod-uid", "forged"),
                ("other", "x"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        );
        pod.spec.as_mut().unwrap().security_context = Some(PodSecurityContext {
            run_as_user: Some(1000),
            fs_group: Some(2000),
            supplemental_groups: Some(vec![2000, 4000]),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        });
    });
    given.image.env = strings(&["PATH=/bin", "LANG=C", "EMPTY"]);
    given.image.module = Some(Module { path: None, digest: "sha256:aa".to_owned() });
    given.environment =
        [("POD", "web-1"), ("PORT", "9000"), ("LANG", "C.UTF-8")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    given.network = PodNetwork {
        namespace: Some("/run/samara/netns/pods".into()),
        pod_ips: vec!["10.0.0.7".parse().unwrap()],
        loopback: Some("127.0.0.7".parse().unwrap()),
        hostname: "web".to_owned(),
        dns_servers: strings(&["10.96.0.10"]),
        dns_searches: strings(&["default.svc.cluster.local", "svc.cluster.local"]),
        dns_options: strings(&["ndots:5"]),
    };
    let mounts = [
        MountPoint { source: "/var/lib/samara/v".into(), destination: "/data".into(), read_only: false },
        MountPoint { source: "/var/lib/samara/hosts".into(), destination: "/etc/hosts".into(), read_only: true },
    ];
    let spec = spec(&Request {
        pod: &given.pod,
        container: &given.pod.spec.as_ref().unwrap().containers[0],
        attempt: 2,
        image: &given.image,
        environment: &given.environment,
        mounts: &mounts,
        network: &given.network,
        cgroups_path: "/samara/poduid-web/0123",
        node_memory: 16 << 30,
    });
    insta::with_settings!({sort_maps => true}, {
        insta::assert_json_snapshot!(golden(&spec.unwrap()));
    });
}

#[test]
fn a_pod_on_the_hosts_network_joins_no_network_or_host_name() {
    let mut given = Given::new(container("app"));
    given.pod = given.pod.spec(|spec| spec.host_network = Some(true));
    given.network.pod_ips = vec!["192.0.2.1".parse().unwrap()];
    let spec = given.spec().unwrap();
    let kinds: Vec<_> = spec.linux().as_ref().unwrap().namespaces().iter().flatten().map(LinuxNamespace::typ).collect();
    assert_eq!(kinds, [LinuxNamespaceType::Pid, LinuxNamespaceType::Ipc, LinuxNamespaceType::Mount]);
    assert_eq!(spec.hostname(), &None);
    assert!(!spec.annotations().as_ref().unwrap().contains_key(annotations::POD_IPS));
}

#[test]
fn command_replaces_entrypoint_and_cmd_and_args_replace_cmd() {
    for (command, args, expected) in [
        (&[][..], &[][..], &["/entry", "cmd"][..]),
        (&[], &["a"], &["/entry", "a"]),
        (&["/c"], &[], &["/c"]),
        (&["/c"], &["a"], &["/c", "a"]),
    ] {
        let list = |list: &[&str]| (!list.is_empty()).then(|| strings(list));
        let mut given = Given::new(Container { command: list(command), args: list(args), ..container("app") });
        given.image.entrypoint = strings(&["/entry"]);
        given.image.cmd = strings(&["cmd"]);
        assert_eq!(given.args(), strings(expected));
    }
}

#[test]
fn a_module_without_entrypoint_is_called_by_its_containers_name() {
    let module = || Some(Module { path: Some("/code.wasm".into()), digest: "sha256:aa".to_owned() });
    let mut given = Given::new(Container { args: Some(strings(&["-v"])), ..container("app") });
    given.image = ImageConfig { module: module(), ..ImageConfig::default() };
    assert_eq!(given.args(), ["app", "-v"]);
    given.pod.spec.as_mut().unwrap().containers[0].command = Some(strings(&["tool", "ls"]));
    assert_eq!(given.args(), ["tool", "ls", "-v"]);
    let mut empty = Given::new(container("app"));
    empty.image = ImageConfig::default();
    assert_eq!(empty.spec().unwrap_err().to_string(), "no command specified");
}

fn with_user(pod_context: Option<PodSecurityContext>, own: SecurityContext, image_user: &str) -> Given {
    let mut given = Given::new(Container { security_context: Some(own), ..container("app") });
    given.pod = given.pod.spec(|spec| spec.security_context = pod_context);
    given.image.user = image_user.to_owned();
    given.image.passwd = "root:x:0:0:root:/:/sh\napp:x:1001:1002::/:/sh\nbroken\n".to_owned();
    given
}

fn ids(given: &Given) -> Result<(u32, u32), String> {
    let spec = given.spec().map_err(|error| error.to_string())?;
    let user = spec.process().as_ref().unwrap().user().clone();
    Ok((user.uid(), user.gid()))
}

#[test]
fn the_user_is_the_containers_then_the_pods_then_the_images() {
    let own = |user| SecurityContext { run_as_user: user, ..SecurityContext::default() };
    let of_pod = |user| Some(PodSecurityContext { run_as_user: Some(user), ..PodSecurityContext::default() });
    assert_eq!(ids(&with_user(of_pod(2), own(Some(1)), "3")), Ok((1, 0)));
    assert_eq!(ids(&with_user(of_pod(2), own(None), "3")), Ok((2, 0)));
    assert_eq!(ids(&with_user(None, own(None), "3")), Ok((3, 0)));
    assert_eq!(ids(&with_user(None, own(None), "3:4")), Ok((3, 4)));
    assert_eq!(ids(&with_user(None, own(None), "")), Ok((0, 0)));
    assert_eq!(ids(&with_user(None, own(None), "app")), Ok((1001, 1002)));
    assert_eq!(ids(&with_user(None, own(None), "1001")), Ok((1001, 1002)));
    assert_eq!(ids(&with_user(None, own(Some(1001)), "")), Ok((1001, 1002)));
    assert_eq!(
        ids(&with_user(None, own(None), "ghost")),
        Err("image user \"ghost\" is not in the image's /etc/passwd".to_owned())
    );
    assert_eq!(ids(&with_user(None, own(Some(-1)), "")), Err("runAsUser is -1: an id is 0 to 4294967294".to_owned()));
}

#[test]
fn run_as_non_root_refuses_in_the_kubelets_words() {
    let non_root =
        |user| SecurityContext { run_as_non_root: Some(true), run_as_user: user, ..SecurityContext::default() };
    let suffix = "(pod: \"web_default(uid-web)\", container: app)";
    for (user, image_user, error) in [
        (Some(0), "7", format!("container's runAsUser breaks non-root policy {suffix}")),
        (None, "0", format!("container has runAsNonRoot and image will run as root {suffix}")),
        (None, "", format!("container has runAsNonRoot and image will run as root {suffix}")),
        (
            None,
            "app",
            format!(
                "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root {suffix}"
            ),
        ),
    ] {
        assert_eq!(ids(&with_user(None, non_root(user), image_user)), Err(error));
    }
    assert_eq!(ids(&with_user(None, non_root(None), "7")), Ok((7, 0)));
    assert_eq!(ids(&with_user(None, non_root(Some(8)), "0")), Ok((8, 0)));
}

#[test]
fn capabilities_are_the_defaults_without_what_is_dropped_and_with_what_is_added() {
    let given = |add: &[&str], drop: &[&str], user| {
        let capabilities = Capabilities { add: Some(strings(add)), drop: Some(strings(drop)) };
        let own =
            SecurityContext { capabilities: Some(capabilities), run_as_user: Some(user), ..SecurityContext::default() };
        with_user(None, own, "").spec().map(|spec| spec.process().as_ref().unwrap().capabilities().clone().unwrap())
    };
    let default = given(&[], &[], 0).unwrap();
    assert_eq!(default.effective().as_ref().unwrap().len(), 6);
    let chosen = given(&["CAP_NET_RAW", "sys_time"], &["all"], 0).unwrap();
    let expected = [Capability::NetRaw, Capability::SysTime].into_iter().collect();
    assert_eq!(chosen.effective().as_ref(), Some(&expected));
    assert_eq!(given(&["ALL"], &["SYS_ADMIN"], 0).unwrap().bounding().as_ref().unwrap().len(), 40);
    let user = given(&["NET_RAW"], &[], 5).unwrap();
    assert!(user.effective().as_ref().unwrap().is_empty());
    assert!(user.bounding().as_ref().unwrap().contains(&Capability::NetRaw));
    assert_eq!(
        given(&["FLY"], &[], 0).unwrap_err().to_string(),
        "unknown capability \"FLY\" in securityContext.capabilities"
    );
}

#[test]
fn the_hash_follows_name_and_image_only() {
    let base = container("app");
    let hash = spec_hash(&base);
    assert_eq!(hash, "f96fb754ceb82847", "stable over versions: running containers carry it");
    let changed = |change: fn(&mut Container)| {
        let mut container = base.clone();
        change(&mut container);
        spec_hash(&container)
    };
    assert_eq!(changed(|container| container.tty = Some(true)), hash);
    assert_ne!(changed(|container| container.image = Some("x".to_owned())), hash);
    assert_ne!(changed(|container| container.name = "y".to_owned()), hash);
}
