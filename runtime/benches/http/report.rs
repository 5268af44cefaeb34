//! The table: medians, spread, and the ratio to the native server of the same round.

use std::fmt::Write as _;

use crate::measure::Round;
use crate::servers::Kind;

#[derive(Debug, Default)]
pub(crate) struct Report(Vec<[Round; Kind::ALL.len()]>);

impl Report {
    pub(crate) fn add(&mut self, round: [Round; Kind::ALL.len()]) {
        self.0.push(round);
    }

    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let titles = ["", "cpu us/request", "ratio to native", "requests/s"];
        // Writing to a string does not fail.
        let _ = writeln!(table, "{:<22} {:>24} {:>24} {:>30}", titles[0], titles[1], titles[2], titles[3]);
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            let cpu = spread(self.0.iter().map(|round| round[index].cpu_per_request), 1);
            let ratio = spread(self.0.iter().map(|round| round[index].cpu_per_request / round[0].cpu_per_request), 2);
            let rate = spread(self.0.iter().map(|round| round[index].requests_per_second), 0);
            let _ = writeln!(table, "{:<22} {cpu:>24} {ratio:>24} {rate:>30}", kind.name());
        }
        table
    }
}

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return String::new() };
    let median = values[values.len() / 2];
    format!("{median:.digits$} [{least:.digits$} .. {most:.digits$}]")
}
