//! `samara stats`: what containers use.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use samara_shim_client::cgroup::Stats;
use serde::Serialize;

use super::each::runtime;
use crate::container::{Container, Shelf};
use crate::format::{self, Format, Reader, print_on};
use crate::place::{Place, must_be_root};
use crate::supervise::Task;

/// What `samara stats` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara stats                              # all that run, until Ctrl-C
  samara stats --no-stream --format json web")]
pub(crate) struct StatsArgs {
    /// Names or ids [default: all that run]
    containers: Vec<String>,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// Between two looks: a rate needs two.
const LOOK: Duration = Duration::from_secs(1);

/// One container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    /// Of one CPU, in percent.
    cpu_percent: f64,
    memory_usage: u64,
    memory_limit: Option<u64>,
    pids: u64,
}

pub(crate) fn main(args: StatsArgs) -> Result<ExitCode> {
    must_be_root("stats")?;
    let place = args.place.absolute()?;
    runtime()?.block_on(async {
        // A screen is drawn over; a pipe gets one table after the other.
        let redraw = std::io::stdout().is_terminal() && !args.no_stream;
        let mut before = look(&place, &args.containers).await?;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = look(&place, &args.containers).await?;
            let rows = rows(&before, &now);
            let text = match args.format {
                Format::Json => format::json(&rows)?,
                Format::Table => table(&rows),
            };
            let reader = print_on(if redraw { format!("\x1b[2J\x1b[H{text}") } else { text })?;
            if reader == Reader::Left || args.no_stream || (!args.containers.is_empty() && now.is_empty()) {
                return Ok(ExitCode::SUCCESS);
            }
            before = now;
        }
    })
}

struct Look {
    container: Container,
    at: Instant,
    stats: Stats,
}

async fn look(place: &Place, names: &[String]) -> Result<Vec<Look>> {
    let shelf = Shelf::of(place);
    let containers = match names {
        [] => shelf.all()?,
        names => names.iter().map(|name| shelf.find(name)).collect::<Result<_>>()?,
    };
    let mut looks = Vec::new();
    for container in containers {
        if container.pid()?.is_none() {
            continue;
        }
        let task = Task::of(place, &container)?;
        // It may end between the question and this.
        if let Ok(stats) = task.shim().await?.stats(&task.id).await {
            looks.push(Look { container, at: Instant::now(), stats });
        }
    }
    Ok(looks)
}

fn rows(before: &[Look], now: &[Look]) -> Vec<Row> {
    let row = |look: &Look| {
        let record = &look.container.record;
        let earlier = before.iter().find(|earlier| earlier.container.record.id == record.id);
        let cpu_percent = earlier.map_or(0.0, |earlier| {
            percent(earlier.stats.cpu.usage_nanos, look.stats.cpu.usage_nanos, look.at.duration_since(earlier.at))
        });
        Row {
            id: record.id.clone(),
            name: record.name.clone(),
            cpu_percent,
            memory_usage: look.stats.memory.working_set(),
            memory_limit: look.stats.memory.limit,
            pids: look.stats.pids.current,
        }
    };
    now.iter().map(row).collect()
}

/// With one decimal. A container that was started anew begins at nothing.
fn percent(before: u64, now: u64, passed: Duration) -> f64 {
    let used = now.saturating_sub(before) as f64;
    let passed = passed.as_nanos().max(1) as f64;
    (used / passed * 1000.0).round() / 10.0
}

fn table(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let limit = row.memory_limit.map_or_else(|| "-".to_owned(), format::bytes);
        vec![
            row.id.chars().take(12).collect(),
            row.name.clone(),
            format!("{:.1}%", row.cpu_percent),
            format!("{} / {limit}", format::bytes(row.memory_usage)),
            row.pids.to_string(),
        ]
    });
    format::table(&["CONTAINER ID", "NAME", "CPU", "MEMORY / LIMIT", "PIDS"], &cells.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_of_one_cpu() {
        let second = Duration::from_secs(1);
        for (before, now, passed, expected) in [
            (0, 500_000_000, second, 50.0),
            (0, 2_000_000_000, second, 200.0),
            (9, 0, second, 0.0),
            (0, 123_456_789, second, 12.3),
        ] {
            assert_eq!(percent(before, now, passed), expected);
        }
        assert!(percent(0, 1, Duration::ZERO).is_finite());
    }
}
