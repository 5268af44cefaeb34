//! `samara top`: the processes of a container, as the host sees them.

use std::fs;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::each::runtime;
use crate::container::Shelf;
use crate::format::{self, Format, print, print_json};
use crate::place::{Place, must_be_root};
use crate::supervise::{Task, task};

/// What `samara top` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara top web          # the guest, and one process for each exec")]
pub(crate) struct TopArgs {
    /// Name or id
    container: String,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// One process.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pid: u32,
    uid: u32,
    state: String,
    threads: u64,
    /// Bytes.
    resident: u64,
    command: String,
}

pub(crate) fn main(args: TopArgs) -> Result<ExitCode> {
    must_be_root("top")?;
    let place = args.place.absolute()?;
    let container = Shelf::of(&place).find(&args.container)?;
    let Some(first) = container.pid()? else {
        bail!("{} does not run: `samara start {0}` starts it again", container.record.name);
    };
    let task = Task::of(&place, &container)?;
    let pids = runtime()?.block_on(async { task.shim().await?.pids(&task.id).await.map_err(task::plain) })?;
    // One may end while it is looked at.
    let rows: Vec<Row> = pids.into_iter().filter_map(look).collect();
    // Processes are forks of the zygote and have its command line; what the first one runs is written down.
    let guest = container.record.command.join(" ");
    let named = |row: Row| if row.pid == first.cast_unsigned() { Row { command: guest.clone(), ..row } } else { row };
    let rows: Vec<Row> = rows.into_iter().map(named).collect();
    match args.format {
        Format::Json => print_json(&rows)?,
        Format::Table => {
            let cells = rows.into_iter().map(|row| {
                let (pid, uid) = (row.pid.to_string(), row.uid.to_string());
                vec![pid, uid, row.state, row.threads.to_string(), format::bytes(row.resident), row.command]
            });
            print(format::table(
                &["PID", "UID", "STATE", "THREADS", "RESIDENT", "COMMAND"],
                &cells.collect::<Vec<_>>(),
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn look(pid: u32) -> Option<Row> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    row(pid, &status, command)
}

/// From the lines of `/proc/<pid>/status`.
fn row(pid: u32, status: &str, command: String) -> Option<Row> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let first = |name: &str| field(name).and_then(|value| value.split_whitespace().next());
    Some(Row {
        pid,
        uid: first("Uid")?.parse().ok()?,
        state: first("State")?.to_owned(),
        threads: first("Threads")?.parse().ok()?,
        // In kB; a process that is ending has none.
        resident: first("VmRSS").and_then(|size| size.parse::<u64>().ok()).unwrap_or(0) * 1024,
        command: if command.is_empty() { field("Name")?.to_owned() } else { command },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_status() {
        let status = "Name:\tguest\nState:\tS (sleeping)\nUid:\t5\t5\t5\t5\nVmRSS:\t   64 kB\nThreads:\t3\n";
        let row = |command: &str| row(7, status, command.into()).unwrap();
        let expected = Row { pid: 7, uid: 5, state: "S".into(), threads: 3, resident: 65536, command: "a b".into() };
        assert_eq!(row("a b"), expected);
        assert_eq!(row("").command, "guest");
        assert_eq!(super::row(7, "", "a".into()), None);
    }
}
