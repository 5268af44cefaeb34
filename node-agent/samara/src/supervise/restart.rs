//! Whether an ended container is started again, and when. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `--restart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RestartPolicy {
    #[default]
    No,
    /// After another exit code than 0, so many times at most; 0 is no limit, as docker has it.
    OnFailure {
        at_most: Option<u32>,
    },
    Always,
    /// Differs from [`RestartPolicy::Always`] only where something starts containers at boot, which nothing does here.
    UnlessStopped,
}

/// Not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--restart {0}: write no, on-failure, on-failure:TIMES, always or unless-stopped")]
pub(crate) struct InvalidPolicy(String);

impl FromStr for RestartPolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        match text.split_once(':') {
            None => match text {
                "no" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure { at_most: None }),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(InvalidPolicy(text.into())),
            },
            Some(("on-failure", times)) => {
                let at_most = times.parse().map_err(|_| InvalidPolicy(text.into()))?;
                Ok(Self::OnFailure { at_most: Some(at_most) })
            }
            Some(_) => Err(InvalidPolicy(text.into())),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { at_most: None } => f.write_str("on-failure"),
            Self::OnFailure { at_most: Some(times) } => write!(f, "on-failure:{times}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// A life that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) exit_code: u8,
    /// Somebody asked for its end.
    pub(crate) stopped: bool,
    /// How often it was started again before.
    pub(crate) restarts: u32,
    pub(crate) lasted: Duration,
    /// The wait before it.
    pub(crate) waited: Duration,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Finish,
    RestartAfter(Duration),
}

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// One that ran so long counts as well again.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// Docker's rule: 100 ms, then twice as long each time up to a minute, from the beginning after 10 s of running.
pub(crate) fn next(policy: RestartPolicy, life: Life) -> Next {
    let again = match policy {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure { at_most } => {
            life.exit_code != 0 && at_most.is_none_or(|times| times == 0 || life.restarts < times)
        }
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    };
    if life.stopped || !again {
        return Next::Finish;
    }
    let wait = if life.lasted >= WELL_AFTER { FIRST_WAIT } else { life.waited * 2 };
    Next::RestartAfter(wait.clamp(FIRST_WAIT, LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written() {
        for text in ["no", "on-failure", "on-failure:3", "on-failure:0", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "yes", "on-failure:", "on-failure:x", "on-failure:-1", "always:1", "no:"] {
            let error = text.parse::<RestartPolicy>().unwrap_err().to_string();
            assert!(error.contains("on-failure:TIMES"), "{error}");
        }
    }

    fn life(exit_code: u8, restarts: u32) -> Life {
        Life { exit_code, stopped: false, restarts, lasted: Duration::ZERO, waited: Duration::ZERO }
    }

    #[test]
    fn each_policy_has_its_reasons() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let again = Next::RestartAfter(FIRST_WAIT);
        for (policy, life, expected) in [
            (No, life(1, 0), Next::Finish),
            (OnFailure { at_most: None }, life(0, 0), Next::Finish),
            (OnFailure { at_most: None }, life(1, 99), again),
            (OnFailure { at_most: Some(2) }, life(1, 1), again),
            (OnFailure { at_most: Some(2) }, life(1, 2), Next::Finish),
            (OnFailure { at_most: Some(0) }, life(1, 99), again),
            (OnFailure { at_most: Some(0) }, life(0, 0), Next::Finish),
            (Always, life(0, 5), again),
            (UnlessStopped, life(0, 5), again),
            (Always, Life { stopped: true, ..life(1, 0) }, Next::Finish),
        ] {
            assert_eq!(next(policy, life), expected, "{policy} {life:?}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_is_short_again_after_ten_good_seconds() {
        let mut waited = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let Next::RestartAfter(wait) = next(RestartPolicy::Always, Life { waited, ..life(1, 0) }) else {
                panic!("finished");
            };
            waits.push(wait.as_millis());
            waited = wait;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        let well = Life { waited, lasted: Duration::from_secs(10), ..life(1, 0) };
        assert_eq!(next(RestartPolicy::Always, well), Next::RestartAfter(FIRST_WAIT));
    }
}
