//! Lifecycle hooks (kubelet: `lifecycle/handlers.go`).

use std::time::Duration;

use samara_core::probe::{Handler, Hook, hook_handler};

use super::{Subject, exec, http};

/// Of an HTTP hook: the connection and the answer. The caller bounds a preStop hook by the grace period.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the container's hook, if it has one. The error is for the log, not for events: it may hold what a server said.
pub async fn hook(subject: &Subject, which: Hook) -> Result<(), String> {
    let Some(handler) = hook_handler(&subject.container, which, &subject.pod_ip())? else { return Ok(()) };
    match &handler {
        Handler::Exec { command } => match exec::execute(&subject.task, command, None).await {
            Ok(exec::Executed { code: Some(0), .. }) => Ok(()),
            Ok(exec::Executed { code, output }) => Err(format!("exit code {}: {output}", code.unwrap_or(137))),
            Err(error) => Err(error.to_string()),
        },
        Handler::Http { .. } => http::hook(&handler, HTTP_TIMEOUT).await,
        Handler::Sleep { duration } => {
            tokio::time::sleep(*duration).await;
            Ok(())
        }
        Handler::Tcp { .. } | Handler::Grpc { .. } => Err("invalid handler".to_owned()),
    }
}
