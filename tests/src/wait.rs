//! Waiting for a condition, never for a time.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(25);

/// What one look at a condition found.
#[derive(Debug)]
pub enum Seen<T> {
    /// It holds.
    Yes(T),
    /// It does not hold yet, and this is what there is instead.
    NotYet(String),
}

impl<T> Seen<T> {
    /// `Yes(value)` if there is one.
    pub fn some(value: Option<T>, otherwise: impl Display) -> Self {
        value.map_or_else(|| Self::NotYet(otherwise.to_string()), Self::Yes)
    }
}

impl Seen<()> {
    /// `Yes` if it holds.
    pub fn when(holds: bool, otherwise: impl Display) -> Self {
        if holds { Self::Yes(()) } else { Self::NotYet(otherwise.to_string()) }
    }
}

/// Looks until it holds. An `Err` of the look ends the waiting at once; the time-out's message says what was seen last.
pub async fn until<T>(
    what: impl Display,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = String::from("not looked yet");
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(Seen::Yes(value))) => return Ok(value),
            Ok(Ok(Seen::NotYet(reason))) => last = reason,
            Ok(Err(error)) => return Err(error.context(format!("while waiting: {what}"))),
            Err(_) => bail!("waited {limit:?} in vain: {what}; a look did not return; before it: {last}"),
        }
        if Instant::now() + EVERY > deadline {
            bail!("waited {limit:?} in vain: {what}; last seen: {last}");
        }
        sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_returns_the_value_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let value = until("third look", Duration::from_secs(1), async || {
            looks += 1;
            Ok(Seen::some((looks == 3).then_some("there"), looks))
        });
        assert_eq!(value.await.expect("holds"), "there");
    }

    #[tokio::test]
    async fn a_time_out_says_what_was_seen_last() {
        let waited =
            until("the moon", Duration::from_millis(80), async || Ok(Seen::<()>::NotYet("only clouds".into())));
        let text = waited.await.expect_err("never holds").to_string();
        assert!(text.contains("the moon") && text.contains("only clouds"), "{text}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_a_time_out() {
        let waited =
            until("an answer", Duration::from_millis(80), async || std::future::pending::<Result<Seen<()>>>().await);
        assert!(waited.await.is_err());
    }
}
