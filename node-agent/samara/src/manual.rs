//! `samara man`: the manual pages, made from the same text as `--help`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Command};
use clap_mangen::Man;

/// What `samara man` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara man /usr/local/share/man/man1 && man samara-run")]
pub(crate) struct ManArgs {
    /// Directory, made if missing
    dir: PathBuf,
}

/// One page for each verb.
pub(crate) fn main(args: &ManArgs, samara: Command) -> Result<ExitCode> {
    fs::create_dir_all(&args.dir).with_context(|| format!("make {}", args.dir.display()))?;
    let mut samara = samara.disable_help_subcommand(true);
    samara.build();
    pages(&args.dir, &samara, "samara")?;
    Ok(ExitCode::SUCCESS)
}

fn pages(dir: &std::path::Path, command: &Command, name: &str) -> Result<()> {
    let path = dir.join(format!("{name}.1"));
    let write = || -> std::io::Result<()> { Man::new(command.clone()).title(name).render(&mut File::create(&path)?) };
    write().with_context(|| format!("write {}", path.display()))?;
    for verb in command.get_subcommands() {
        pages(dir, verb, &format!("{name}-{}", verb.get_name()))?;
    }
    Ok(())
}
