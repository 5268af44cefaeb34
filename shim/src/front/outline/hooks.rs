//! `hooks`: programs of the host that are run beside a container. Those that would run inside it cannot: nothing in a
//! container can be executed.

use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::{Hook, Hooks, Spec};
use serde::Serialize;

use super::OutlineError;

/// A hook that does not end must not hold up its container for ever, whatever its own limit.
const LONGEST: Duration = Duration::from_secs(60);

/// In the order in which they are run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HooksOutline {
    /// `prestart`, then `createRuntime`: when the container is set up and waits for its start. A failure ends it.
    pub(crate) created: Vec<HookOutline>,
    /// `poststart`. A failure is logged.
    pub(crate) started: Vec<HookOutline>,
    /// `poststop`: when the container is deleted. A failure is logged.
    pub(crate) deleted: Vec<HookOutline>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HookOutline {
    pub(crate) path: PathBuf,
    /// With its name first; empty: the path.
    pub(crate) args: Vec<String>,
    /// `KEY=VALUE`; all that it has.
    pub(crate) env: Vec<String>,
    pub(crate) within: Duration,
}

/// Refuses those that cannot be run.
pub(crate) fn of(spec: &Spec) -> Result<HooksOutline, OutlineError> {
    let Some(hooks) = spec.hooks() else {
        return Ok(HooksOutline::default());
    };
    inside(hooks)?;
    let first = decide(hooks.prestart().as_deref(), "hooks.prestart")?;
    let second = decide(hooks.create_runtime().as_deref(), "hooks.createRuntime")?;
    Ok(HooksOutline {
        created: [first, second].concat(),
        started: decide(hooks.poststart().as_deref(), "hooks.poststart")?,
        deleted: decide(hooks.poststop().as_deref(), "hooks.poststop")?,
    })
}

fn inside(hooks: &Hooks) -> Result<(), OutlineError> {
    let is_set = |list: &Option<Vec<Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let table = [
        ("hooks.createContainer", is_set(hooks.create_container())),
        ("hooks.startContainer", is_set(hooks.start_container())),
    ];
    table.into_iter().find(|(_, is_set)| *is_set).map_or(Ok(()), |(name, _)| Err(OutlineError::Unsupported(name)))
}

fn decide(hooks: Option<&[Hook]>, list: &str) -> Result<Vec<HookOutline>, OutlineError> {
    let one = |hook: &Hook| {
        let path = hook.path();
        if !path.is_absolute() {
            let text = path.to_string_lossy();
            return Err(OutlineError::value(format!("{list}[].path"), text, "is not an absolute path"));
        }
        let seconds = hook.timeout().map(u64::try_from).and_then(Result::ok).filter(|seconds| *seconds > 0);
        Ok(HookOutline {
            path: path.clone(),
            args: hook.args().clone().unwrap_or_default(),
            env: hook.env().clone().unwrap_or_default(),
            within: seconds.map_or(LONGEST, Duration::from_secs).min(LONGEST),
        })
    };
    hooks.unwrap_or_default().iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hooks(hooks: Value) -> Result<HooksOutline, String> {
        let spec = json!({"ociVersion": "1.2.0", "hooks": hooks});
        of(&serde_json::from_value(spec).expect("spec")).map_err(|error| error.to_string())
    }

    fn hook(path: &str) -> HookOutline {
        HookOutline { path: path.into(), args: vec![], env: vec![], within: LONGEST }
    }

    #[test]
    fn hooks_of_the_host_are_run_in_their_order() {
        let outline = hooks(json!({
            "prestart": [{"path": "/a"}],
            "createRuntime": [{"path": "/b", "args": ["b", "c"], "env": ["X=1"], "timeout": 5}, {"path": "/c"}],
            "poststart": [{"path": "/d"}],
            "poststop": [{"path": "/e", "timeout": 3600}],
            "createContainer": [],
        }));
        let b = HookOutline {
            args: vec!["b".into(), "c".into()],
            env: vec!["X=1".into()],
            within: Duration::from_secs(5),
            ..hook("/b")
        };
        let expected = HooksOutline {
            created: vec![hook("/a"), b, hook("/c")],
            started: vec![hook("/d")],
            deleted: vec![hook("/e")],
        };
        assert_eq!(outline, Ok(expected));
    }

    #[test]
    fn hooks_that_would_run_in_the_container_and_relative_ones_are_refused_by_name() {
        for (list, message) in [
            ("createContainer", "config.json: hooks.createContainer is not supported"),
            ("startContainer", "config.json: hooks.startContainer is not supported"),
        ] {
            assert_eq!(hooks(json!({list: [{"path": "/a"}]})), Err(message.into()));
        }
        let error = hooks(json!({"poststop": [{"path": "a"}]})).expect_err("refused");
        assert_eq!(error, r#"config.json: hooks.poststop[].path: "a" is not an absolute path"#);
    }
}
