//! How the story is told: a sentence, what is seen, how long it took.

use std::time::Instant;

use anyhow::{Context as _, Result};
use samara_tests::kubectl::Kubectl;

/// Numbers the steps and takes their time.
#[derive(Debug)]
pub(crate) struct Teller {
    began: Instant,
    steps: usize,
}

impl Teller {
    /// The story began then.
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, steps: 0 }
    }

    /// One step: its sentence, its work, its time.
    pub(crate) async fn step<T>(&mut self, sentence: &str, work: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let began = self.open(sentence);
        let outcome = work(self).await.with_context(|| sentence.to_owned())?;
        self.close(began);
        Ok(outcome)
    }

    /// The same for work that does not wait.
    pub(crate) fn step_now<T>(&mut self, sentence: &str, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let began = self.open(sentence);
        let outcome = work(self).with_context(|| sentence.to_owned())?;
        self.close(began);
        Ok(outcome)
    }

    /// A line about what is seen.
    pub(crate) fn say(&self, line: &str) {
        println!("   {line}");
    }

    /// A command as a user types it, and what it printed.
    pub(crate) async fn show(&self, kubectl: &Kubectl, args: &[&str]) -> Result<String> {
        println!("   $ kubectl {}", args.join(" "));
        let text = kubectl.run(args).await?;
        self.quote(&text, 12);
        Ok(text)
    }

    /// The first lines of a text.
    pub(crate) fn quote(&self, text: &str, most: usize) {
        for line in text.lines().take(most) {
            println!("     {line}");
        }
        let more = text.lines().count().saturating_sub(most);
        if more > 0 {
            println!("     ... {more} more lines");
        }
    }

    fn open(&mut self, sentence: &str) -> Instant {
        self.steps += 1;
        println!("\n{}. {sentence}", self.steps);
        Instant::now()
    }

    fn close(&self, began: Instant) {
        println!("   {:.1} s (at {:.0} s)", began.elapsed().as_secs_f64(), self.began.elapsed().as_secs_f64());
    }
}
