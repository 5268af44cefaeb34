//! The figures, as a page.

use std::fmt::Write as _;
use std::time::Duration;

use crate::pods::{Fired, Shot, Target};

/// Figures in the order in which they were taken.
#[derive(Debug)]
pub(crate) struct Report {
    shots: Vec<String>,
    processes: Vec<String>,
    lines: Vec<String>,
    floors: Vec<(usize, bool, f64, f64)>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { shots: Vec::new(), processes: Vec::new(), lines: Vec::new(), floors: Vec::new() }
    }

    /// A shot's latencies and rate.
    pub(crate) fn shot(&mut self, target: Target, shot: Shot, fired: &Fired) {
        let how = if shot.every.is_some() { "5/s" } else { "at once" };
        let [p50, p99] = [0.5, 0.99].map(|part| fired.percentile(part).as_secs_f64() * 1000.0);
        let rate = fired.rate();
        let row = format!("| {} | {} {how} | {p50:.0} ms | {p99:.0} ms | {rate:.0}/s |", target.name(), shot.pods);
        println!("{row}");
        self.shots.push(row);
        self.floors.push((shot.pods, target == Target::Samara, p50, rate));
    }

    /// Processes of one role.
    pub(crate) fn process(&mut self, when: &str, role: &str, count: usize, kib: i64, share: f64) {
        let row = format!("| {when} | {role} | {count} | {:.1} MiB | {share:.4} |", kibibytes(kib));
        println!("{row}");
        self.processes.push(row);
    }

    /// Memory of each pod.
    pub(crate) fn memory_per_pod(&mut self, pods: usize, kib: i64) {
        let each = kib / i64::try_from(pods).unwrap_or(1).max(1);
        self.line(format!("memory per pod at {pods} pods: {each} KiB"));
    }

    /// Median and spread of one kind of start.
    pub(crate) fn starts(&mut self, what: &str, mut times: Vec<Duration>) {
        times.sort();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default().as_secs_f64() * 1000.0;
        self.line(format!("{what}: median {:.2} ms, p90 {:.2} ms, of {}", at(50), at(90), times.len()));
    }

    /// Any other figure.
    pub(crate) fn line(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("{text}");
        self.lines.push(text);
    }

    /// The whole page.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| who | pods | p50 | p99 | rate |\n|---|---|---|---|---|\n");
        for row in &self.shots {
            let _ = writeln!(text, "{row}");
        }
        text += "\n| when | process | count | PSS | CPUs |\n|---|---|---|---|---|\n";
        for row in &self.processes {
            let _ = writeln!(text, "{row}");
        }
        text += "\n";
        for line in &self.lines {
            let _ = writeln!(text, "- {line}");
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
fn kibibytes(kib: i64) -> f64 {
    kib as f64 / 1024.0
}
