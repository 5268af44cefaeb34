//! The figures, as a page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::pods::{Fired, Shot, Target};

/// Figures in the order in which they were taken.
#[derive(Debug)]
pub(crate) struct Report {
    shots: Vec<String>,
    processes: Vec<String>,
    spans: Vec<String>,
    cpu: Vec<String>,
    requests: Vec<String>,
    lines: Vec<String>,
    figures: Vec<(Target, Shot, Figure)>,
}

/// A shot in numbers: milliseconds, and pods per second.
#[derive(Debug, Clone, Copy)]
struct Figure {
    p50: f64,
    p99: f64,
    rate: f64,
}

impl Report {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            shots: Vec::new(),
            processes: Vec::new(),
            spans: Vec::new(),
            cpu: Vec::new(),
            requests: Vec::new(),
            lines: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// A shot's latencies and rate.
    pub(crate) fn shot(&mut self, target: Target, shot: Shot, fired: &Fired) {
        let how = shot.how();
        let [p50, p99] = [0.5, 0.99].map(|part| fired.percentile(part).as_secs_f64() * 1000.0);
        let rate = fired.rate();
        let row = format!("| {} | {} {how} | {p50:.0} ms | {p99:.0} ms | {rate:.0}/s |", target.name(), shot.pods);
        println!("{row}");
        self.shots.push(row);
        self.figures.push((target, shot, Figure { p50, p99, rate }));
    }

    /// Processes of one role.
    pub(crate) fn process(&mut self, when: &str, role: &str, count: usize, kib: i64, share: f64) {
        let row = format!("| {when} | {role} | {count} | {:.1} MiB | {share:.4} |", kibibytes(kib));
        println!("{row}");
        self.processes.push(row);
    }

    /// Who used the CPUs during a shot, for each pod, most first.
    pub(crate) fn cpu(&mut self, target: Target, shot: Shot, used: &BTreeMap<String, Duration>) {
        let pods = u32::try_from(shot.pods).unwrap_or(1).max(1);
        let mut each: Vec<_> = used.iter().map(|(role, used)| (*used / pods, role)).collect();
        each.sort_by(|one, other| other.cmp(one));
        let sum: Duration = each.iter().map(|(used, _)| *used).sum();
        let told = each.iter().filter(|(used, _)| used.as_micros() >= 20);
        let told: Vec<_> = told.map(|(used, role)| format!("{role} {}", used.as_micros())).collect();
        let row =
            format!("| {} | {} {} | {} | {} |", target.name(), shot.pods, shot.how(), sum.as_micros(), told.join(", "));
        println!("{row}");
        self.cpu.push(row);
    }

    /// What was asked of the API server for each pod.
    pub(crate) fn requests(&mut self, target: Target, shot: Shot, asked: &[(String, f64)]) {
        let asked: Vec<_> = asked.iter().map(|(what, count)| format!("{what} {count:.2}")).collect();
        let row = format!("| {} | {} {} | {} |", target.name(), shot.pods, shot.how(), asked.join(", "));
        println!("{row}");
        self.requests.push(row);
    }

    /// A part of one pod's start, and the median of that part over all pods; microseconds.
    pub(crate) fn span(&mut self, phase: &str, at: u64, took: u64, of_all: u64) {
        let row = format!("| {phase} | {at} | {took} | {of_all} |");
        println!("{row}");
        self.spans.push(row);
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

    /// Each of our shots beside the mean of the floor's before and after.
    fn beside_the_floor(&self) -> Vec<String> {
        let ours = self.figures.iter().filter(|(target, ..)| *target == Target::Samara);
        let lines = ours.filter_map(|(_, shot, figure)| {
            let floors: Vec<_> =
                self.figures.iter().filter(|(target, other, _)| *target == Target::Kwok && other == shot).collect();
            let mean = |part: fn(&Figure) -> f64| {
                Some(floors.iter().map(|(.., figure)| part(figure)).sum::<f64>() / count(floors.len())?)
            };
            let [p50, p99, rate] = [
                figure.p50 / mean(|figure| figure.p50)?,
                figure.p99 / mean(|figure| figure.p99)?,
                100.0 * figure.rate / mean(|figure| figure.rate)?,
            ];
            let how = shot.how();
            Some(format!("{} {how}: p50 {p50:.2}x, p99 {p99:.2}x, rate {rate:.0} % of the floor.", shot.pods))
        });
        lines.collect()
    }

    /// The whole page.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| who | pods | p50 | p99 | rate |\n|---|---|---|---|---|\n");
        for row in &self.shots {
            let _ = writeln!(text, "{row}");
        }
        for line in self.beside_the_floor() {
            let _ = writeln!(text, "\n{line}");
        }
        text += "\n| when | process | count | PSS | CPUs |\n|---|---|---|---|---|\n";
        for row in &self.processes {
            let _ = writeln!(text, "{row}");
        }
        text += "\n| who | pods | CPU for each, us | of which |\n|---|---|---|---|\n";
        for row in &self.cpu {
            let _ = writeln!(text, "{row}");
        }
        text += "\n| who | pods | requests for each |\n|---|---|---|\n";
        for row in &self.requests {
            let _ = writeln!(text, "{row}");
        }
        text += "\n| span of the median pod | from, us | took, us | median of all, us |\n|---|---|---|---|\n";
        for row in &self.spans {
            let _ = writeln!(text, "{row}");
        }
        text += "\n";
        for line in &self.lines {
            let _ = writeln!(text, "- {line}");
        }
        text
    }
}

/// None of nothing.
#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn count(of: usize) -> Option<f64> {
    (of > 0).then_some(of as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
fn kibibytes(kib: i64) -> f64 {
    kib as f64 / 1024.0
}
