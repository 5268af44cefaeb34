//! One try of one probe.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use samara_core::probe::{Handler, ProbeResult, probe_handler};

use super::{Subject, exec, http, tcp};

/// What it gave, and whether that is only because nobody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) result: ProbeResult,
    pub(super) refused: bool,
}

impl Tried {
    pub(super) fn of(result: ProbeResult) -> Self {
        Self { result, refused: false }
    }

    pub(super) fn failure(output: impl Into<String>) -> Self {
        Self::of(ProbeResult::Failure { output: output.into() })
    }

    pub(super) fn refused(output: String) -> Self {
        Self { refused: true, ..Self::failure(output) }
    }
}

pub(super) async fn try_once(subject: &Subject, probe: &Probe, timeout: Duration) -> Tried {
    let handler = match probe_handler(&subject.pod, &subject.container, probe, &subject.pod_ip()) {
        Ok(handler) => handler,
        Err(error) => return Tried::of(ProbeResult::Unknown { error }),
    };
    match handler {
        Handler::Http { .. } => http::probe(&handler, timeout).await,
        Handler::Tcp { host, port } => tcp::probe(&host, port, timeout).await,
        Handler::Exec { command } => exec_probe(subject, &command, timeout).await,
        Handler::Grpc { .. } => Tried::of(ProbeResult::Unknown { error: "gRPC probes are not supported".to_owned() }),
        Handler::Sleep { .. } => Tried::of(ProbeResult::Unknown { error: "a probe cannot sleep".to_owned() }),
    }
}

async fn exec_probe(subject: &Subject, command: &[String], timeout: Duration) -> Tried {
    match exec::execute(&subject.task, command, Some(timeout)).await {
        Ok(exec::Executed { code: Some(0), .. }) => Tried::of(ProbeResult::Success),
        Ok(exec::Executed { code: Some(_), output }) => Tried::failure(output),
        Ok(exec::Executed { code: None, .. }) => {
            let words: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
            Tried::failure(format!("command timed out: {} timed out after {}s", words.join(" "), timeout.as_secs()))
        }
        Err(error) => Tried::of(ProbeResult::Unknown { error: error.to_string() }),
    }
}
