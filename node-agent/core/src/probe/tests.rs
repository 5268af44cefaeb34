use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, ExecAction, GRPCAction, HTTPGetAction, HTTPHeader, Lifecycle, LifecycleHandler,
    Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;
use crate::fixtures::{at, container, pod};

fn failure() -> ProbeResult {
    ProbeResult::Failure { output: "HTTP probe failed with statuscode: 500".to_owned() }
}

fn prober(kind: ProbeKind, probe: Probe) -> Prober {
    Prober::new(kind, &probe, at(0))
}

#[test]
fn an_unset_probe_has_the_apis_defaults() {
    let prober = prober(ProbeKind::Readiness, Probe { period_seconds: Some(0), ..Probe::default() });
    assert_eq!(prober.timeout(), Duration::from_secs(1));
    assert_eq!(prober.next(None), at(0));
    assert_eq!(prober.next(Some(at(3))), at(13));
}

#[test]
fn the_first_try_waits_for_the_initial_delay_and_the_others_a_period() {
    let probe = Probe { initial_delay_seconds: Some(5), period_seconds: Some(2), ..Probe::default() };
    let prober = prober(ProbeKind::Liveness, probe);
    assert_eq!(prober.next(None), at(5));
    assert_eq!(prober.next(Some(at(5))), at(7));
}

#[test]
fn before_the_first_threshold_readiness_fails_liveness_passes_and_startup_is_open() {
    for (kind, outcome) in [
        (ProbeKind::Readiness, Outcome::Failure),
        (ProbeKind::Liveness, Outcome::Success),
        (ProbeKind::Startup, Outcome::Unknown),
    ] {
        assert_eq!(prober(kind, Probe::default()).outcome(), outcome);
    }
}

#[test]
fn a_threshold_counts_results_in_a_row() {
    let probe = Probe { failure_threshold: Some(3), success_threshold: Some(2), ..Probe::default() };
    let mut prober = prober(ProbeKind::Readiness, probe);
    let mut outcomes = Vec::new();
    for good in [true, false, true, true, false, false, true, false, false, false] {
        prober.observe(&if good { ProbeResult::Success } else { failure() });
        outcomes.push(prober.outcome() == Outcome::Success);
    }
    assert_eq!(outcomes, [false, false, false, true, true, true, true, true, true, false]);
}

#[test]
fn what_cannot_be_tried_counts_for_nothing_and_is_told() {
    let mut prober = prober(ProbeKind::Liveness, Probe { failure_threshold: Some(1), ..Probe::default() });
    let event = prober.observe(&ProbeResult::Unknown { error: "port http not found".to_owned() }).unwrap();
    assert_eq!(event.reason, "Unhealthy");
    assert_eq!(event.message, "Liveness probe errored and resulted in unknown state: port http not found");
    assert_eq!(prober.outcome(), Outcome::Success);
}

#[test]
fn failures_and_warnings_are_told_in_the_kubelets_words() {
    let mut prober = prober(ProbeKind::Readiness, Probe::default());
    let event = prober.observe(&failure()).unwrap();
    assert_eq!(event.message, "Readiness probe failed: HTTP probe failed with statuscode: 500");
    let event = prober.observe(&ProbeResult::Warning { output: "redirected".to_owned() }).unwrap();
    assert_eq!((event.reason, event.message.as_str()), ("ProbeWarning", "Readiness probe warning: redirected"));
    assert_eq!(prober.outcome(), Outcome::Success);
    assert_eq!(prober.observe(&ProbeResult::Success), None);
}

#[test]
fn a_probe_of_an_attempt_from_before_the_agents_restart_keeps_its_outcome_until_a_threshold_says_otherwise() {
    let probe = Probe { failure_threshold: Some(3), success_threshold: Some(2), ..Probe::default() };
    for (was, result, tries) in [(Outcome::Success, failure(), 3), (Outcome::Failure, ProbeResult::Success, 2)] {
        let mut ready = Prober::resumed(ProbeKind::Readiness, &probe, at(0), was);
        let outcomes: Vec<Outcome> = (0..tries)
            .map(|_| {
                let before = ready.outcome();
                ready.observe(&result);
                before
            })
            .collect();
        assert_eq!(outcomes, vec![was; tries]);
        assert_ne!(ready.outcome(), was);
    }
}

fn with_port() -> Container {
    let port = ContainerPort { name: Some("http".to_owned()), container_port: 8080, ..ContainerPort::default() };
    Container { ports: Some(vec![port]), ..container("app") }
}

fn http(action: HTTPGetAction) -> Probe {
    Probe { http_get: Some(action), ..Probe::default() }
}

#[test]
fn a_named_port_is_the_containers() {
    let action = HTTPGetAction {
        path: Some("health?full=1".to_owned()),
        port: IntOrString::String("http".to_owned()),
        http_headers: Some(vec![
            HTTPHeader { name: "accept".to_owned(), value: String::new() },
            HTTPHeader { name: "Host".to_owned(), value: "web".to_owned() },
        ]),
        ..HTTPGetAction::default()
    };
    let handler = probe_handler(&pod("web"), &with_port(), &http(action), "10.0.0.7").unwrap();
    assert_eq!(
        handler,
        Handler::Http {
            scheme: Scheme::Http,
            host: "10.0.0.7".to_owned(),
            port: 8080,
            path: "/health?full=1".to_owned(),
            headers: vec![
                ("Host".to_owned(), "web".to_owned()),
                ("User-Agent".to_owned(), "kube-probe/1.36".to_owned())
            ],
        }
    );
}

#[test]
fn a_probe_that_cannot_be_made_says_why() {
    let to = |port| http(HTTPGetAction { port, ..HTTPGetAction::default() });
    let error = |probe: &Probe| probe_handler(&pod("web"), &with_port(), probe, "10.0.0.7").unwrap_err();
    assert_eq!(error(&to(IntOrString::String("admin".to_owned()))), "port admin not found");
    assert_eq!(error(&to(IntOrString::Int(70_000))), "invalid port number: 70000");
    assert_eq!(error(&to(IntOrString::Int(0))), "invalid port number: 0");
    assert_eq!(error(&Probe::default()), "missing probe handler for web_default(uid-web):app");
}

#[test]
fn an_exec_probe_knows_the_variables_that_are_written_in_the_spec() {
    let variable = EnvVar { name: "MODE".to_owned(), value: Some("fast".to_owned()), ..EnvVar::default() };
    let container = Container { env: Some(vec![variable]), ..container("app") };
    let exec = ExecAction { command: Some(vec!["check".to_owned(), "$(MODE)".to_owned(), "$(OTHER)".to_owned()]) };
    let probe = Probe { exec: Some(exec), ..Probe::default() };
    let handler = probe_handler(&pod("web"), &container, &probe, "10.0.0.7").unwrap();
    let command = ["check", "fast", "$(OTHER)"].map(str::to_owned).to_vec();
    assert_eq!(handler, Handler::Exec { command });
}

#[test]
fn tcp_and_grpc_go_to_the_pod_unless_told_otherwise() {
    let tcp = TCPSocketAction { host: None, port: IntOrString::Int(5432) };
    let probe = Probe { tcp_socket: Some(tcp), ..Probe::default() };
    let handler = probe_handler(&pod("web"), &with_port(), &probe, "10.0.0.7").unwrap();
    assert_eq!(handler, Handler::Tcp { host: "10.0.0.7".to_owned(), port: 5432 });
    let grpc = Probe { grpc: Some(GRPCAction { port: 9000, service: None }), ..Probe::default() };
    let handler = probe_handler(&pod("web"), &with_port(), &grpc, "10.0.0.7").unwrap();
    assert_eq!(handler, Handler::Grpc { host: "10.0.0.7".to_owned(), port: 9000, service: String::new() });
}

#[test]
fn hooks_sleep_execute_or_ask() {
    let hook = |handler: LifecycleHandler| Container {
        lifecycle: Some(Lifecycle { pre_stop: Some(handler), ..Lifecycle::default() }),
        ..with_port()
    };
    let sleeping = LifecycleHandler { sleep: Some(SleepAction { seconds: 5 }), ..LifecycleHandler::default() };
    let handler = hook_handler(&hook(sleeping.clone()), Hook::PreStop, "10.0.0.7").unwrap();
    assert_eq!(handler, Some(Handler::Sleep { duration: Duration::from_secs(5) }));
    assert_eq!(hook_handler(&hook(sleeping), Hook::PostStart, "10.0.0.7"), Ok(None));
    let asking =
        HTTPGetAction { port: IntOrString::Int(80), scheme: Some("HTTPS".to_owned()), ..HTTPGetAction::default() };
    let asking = LifecycleHandler { http_get: Some(asking), ..LifecycleHandler::default() };
    let handler = hook_handler(&hook(asking), Hook::PreStop, "10.0.0.7").unwrap().unwrap();
    let Handler::Http { scheme: Scheme::Https, path, headers, .. } = handler else { panic!("{handler:?}") };
    assert_eq!(path, "/");
    assert!(headers.contains(&("User-Agent".to_owned(), "kube-lifecycle/1.36".to_owned())));
    assert!(hook_handler(&hook(LifecycleHandler::default()), Hook::PreStop, "10.0.0.7").is_err());
}
