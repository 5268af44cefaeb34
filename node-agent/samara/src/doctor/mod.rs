//! `samara doctor`: what this machine can do, and what to do about what it cannot.
//!
//! [`look`] reads the machine into [`Facts`]; [`judge`] turns those into lines, and is pure.

mod judge;
mod look;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::colour::{Colour, Tone};
use crate::format::{Format, coloured, print, print_json};
use crate::place::Place;

/// What `samara doctor` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo samara doctor
  samara doctor --registry registry.example:5000 --format json

The exit code is 1 if something fails, so that nothing can run.")]
pub(crate) struct DoctorArgs {
    /// Also ask whether this registry can be reached
    #[arg(long, value_name = "HOST[:PORT]")]
    registry: Vec<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// What was read of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    root: bool,
    kernel: String,
    /// `v1`, `v2`; none if there is none.
    cgroup: Option<String>,
    missing_controllers: Vec<String>,
    missing_namespaces: Vec<String>,
    /// Of Landlock, 0 for none.
    landlock: i64,
    seccomp: bool,
    /// File systems the kernel knows, of those that are wanted.
    overlay: bool,
    missing_capabilities: Vec<String>,
    ip_forward: bool,
    /// Free bytes where images and containers are kept.
    free: Option<u64>,
    root_dir: String,
    run_dir_error: Option<String>,
    /// By registry: what is wrong with the way to it.
    registries: Vec<(String, Option<String>)>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    /// What was found, and what to do about it.
    found: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

pub(crate) fn main(args: DoctorArgs) -> Result<ExitCode> {
    let findings = judge::judge(&look::look(&args.place.absolute()?, &args.registry));
    match args.format {
        Format::Json => print_json(&findings)?,
        Format::Table => {
            let word = |verdict| match verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            let rows: Vec<Vec<String>> = findings
                .iter()
                .map(|line| vec![word(line.verdict).into(), line.what.clone(), line.found.clone()])
                .collect();
            let colour = Colour::of_stdout();
            let style = |row: usize, column| match (column, findings[row].verdict) {
                (0, Verdict::Ok) => colour.style(Tone::Good),
                (0, Verdict::Warn) => colour.style(Tone::Doubtful),
                (0, Verdict::Fail) => colour.style(Tone::Bad),
                (_, _) => colour.style(Tone::Plain),
            };
            print(coloured(&["", "WHAT", "FOUND"], &rows, style))?;
        }
    }
    let fails = findings.iter().any(|line| line.verdict == Verdict::Fail);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
