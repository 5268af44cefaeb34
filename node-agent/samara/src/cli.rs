//! The command line: what there is, and which file does it.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;

use crate::{images, node, run};

/// Runs WebAssembly where Kubernetes runs containers.
#[derive(Debug, Parser)]
#[command(
    name = "samara",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a wasm file or an image, here, without a cluster
    Run(run::RunArgs),
    /// Be a node of a Kubernetes cluster
    Node(Box<node::NodeArgs>),
    /// Fetch an image from a registry
    Pull(images::PullArgs),
    /// Send a wasm file (or a directory with one) to a registry as an image
    Push(images::PushArgs),
    /// List the images on this machine
    Images(images::ListArgs),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// Parses, runs, and turns the outcome into an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.verb {
        Verb::Run(args) => run::main(args),
        Verb::Node(args) => {
            log_to_stderr("info");
            node::main(*args)
        }
        Verb::Pull(args) => images::pull(args),
        Verb::Push(args) => images::push(args),
        Verb::Images(args) => images::list(args),
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "samara", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("samara: {error:#}");
        ExitCode::from(125)
    })
}

/// A node logs what a person would want to know of; `RUST_LOG` says otherwise.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
