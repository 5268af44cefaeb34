//! How it ended, as a `metav1.Status` (kubelet: `remotecommand.ServeExec`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use super::protocol::Protocol;

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The process's exit code.
    Exited(u32),
    /// It never ran, or its end is not known.
    Failed {
        /// `executing command in`, `attaching to`.
        doing: &'static str,
        why: String,
    },
}

impl Outcome {
    /// For the error channel; nothing is said of success before version 4.
    pub(super) fn told(&self, protocol: Protocol) -> Option<Vec<u8>> {
        let status = self.status();
        if protocol.tells_status() {
            // Plain data: serialising it cannot fail.
            return Some(serde_json::to_vec(&status).unwrap_or_default());
        }
        match self {
            Self::Exited(0) => None,
            Self::Exited(_) | Self::Failed { .. } => status.message.map(String::into_bytes),
        }
    }

    fn status(&self) -> Status {
        let cause = |reason: Option<&str>, message: String| {
            let cause = StatusCause { reason: reason.map(str::to_owned), message: Some(message), field: None };
            Some(StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() })
        };
        let failure = Status { status: Some("Failure".into()), ..Status::default() };
        match self {
            Self::Exited(0) => Status { status: Some("Success".into()), ..Status::default() },
            Self::Exited(code) => Status {
                reason: Some("NonZeroExitCode".into()),
                message: Some(format!(
                    "command terminated with non-zero exit code: command terminated with exit code {code}"
                )),
                details: cause(Some("ExitCode"), code.to_string()),
                ..failure
            },
            Self::Failed { doing, why } => {
                let why = format!("error {doing} container: {why}");
                Status {
                    reason: Some("InternalError".into()),
                    code: Some(500),
                    message: Some(format!("Internal error occurred: {why}")),
                    details: cause(None, why),
                    ..failure
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(outcome: &Outcome, protocol: &str) -> Option<Vec<u8>> {
        outcome.told(Protocol::choose(&[protocol.to_owned()]).expect("known").1)
    }

    #[test]
    fn each_end_is_told_as_the_kubelet_tells_it() {
        let failed = Outcome::Failed { doing: "executing command in", why: "no such file".into() };
        let table = [
            (Outcome::Exited(0), json!({"status": "Success"})),
            (
                Outcome::Exited(3),
                json!({"status": "Failure", "reason": "NonZeroExitCode",
                    "message": "command terminated with non-zero exit code: command terminated with exit code 3",
                    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}),
            ),
            (
                failed,
                json!({"status": "Failure", "reason": "InternalError", "code": 500,
                    "message": "Internal error occurred: error executing command in container: no such file",
                    "details": {"causes": [{"message": "error executing command in container: no such file"}]}}),
            ),
        ];
        for (outcome, mut expected) in table {
            let bytes = told(&outcome, "v5.channel.k8s.io").expect("always told");
            expected["kind"] = json!("Status");
            expected["apiVersion"] = json!("v1");
            expected["metadata"] = json!({});
            assert_eq!(serde_json::from_slice::<Value>(&bytes).expect("JSON"), expected, "{outcome:?}");
        }
    }

    #[test]
    fn the_oldest_protocol_says_nothing_of_success_and_words_of_failure() {
        assert_eq!(told(&Outcome::Exited(0), "channel.k8s.io"), None);
        let words = told(&Outcome::Exited(3), "channel.k8s.io").expect("told");
        assert!(words.starts_with(b"command terminated with non-zero exit code"));
    }
}
