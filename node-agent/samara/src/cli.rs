//! The command line: what there is, and which file does it.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;

use crate::image::interrupt::Interrupted;
use crate::{colour, doctor, image, kube, manual, node, run, system, tell, verbs};

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
    Run(Box<run::RunArgs>),
    /// List containers
    Ps(verbs::ps::PsArgs),
    /// Show what a container wrote
    Logs(verbs::logs::LogsArgs),
    /// Run a further program in a running container
    Exec(verbs::exec::ExecArgs),
    /// See a detached container's output, and be its input
    Attach(verbs::attach::AttachArgs),
    /// Copy files to or from a container
    Cp(verbs::cp::CpArgs),
    /// Stop containers: the stop signal, then SIGKILL
    Stop(verbs::stop::StopArgs),
    /// Start stopped containers again
    Start(verbs::start::StartArgs),
    /// Stop containers and start them again
    Restart(verbs::start::RestartArgs),
    /// Send containers a signal, SIGKILL unless another is named
    Kill(verbs::kill::KillArgs),
    /// Give a container another name
    Rename(verbs::rename::RenameArgs),
    /// Remove containers
    Rm(verbs::rm::RmArgs),
    /// Wait for containers to end, and print their exit codes
    Wait(verbs::wait::WaitArgs),
    /// Show what containers use
    Stats(verbs::stats::StatsArgs),
    /// Show which ports of this machine lead to a container
    Port(verbs::port::PortArgs),
    /// Show a container's processes
    Top(verbs::top::TopArgs),
    /// Show everything about a container or an image, as JSON
    Inspect(verbs::inspect::InspectArgs),
    /// Fetch images from registries
    Pull(image::pull::PullArgs),
    /// Send a wasm file (or a directory with one) to a registry as an image
    Push(image::push::PushArgs),
    /// List the images on this machine
    Images(image::list::ListArgs),
    /// Give an image another name
    Tag(image::tag::TagArgs),
    /// Remove images
    Rmi(image::remove::RmiArgs),
    /// Write images to an archive or directory
    Save(image::archive::SaveArgs),
    /// Read images from an archive or directory
    Load(image::archive::LoadArgs),
    /// Make an image of a wasm file and what it needs
    Build(image::build::BuildArgs),
    /// Compile now what would be compiled at its first start
    Compile(image::compile::CompileArgs),
    /// Keep credentials for a registry
    Login(image::login::LoginArgs),
    /// Forget them
    Logout(image::login::LogoutArgs),
    /// Look what this machine can do, and say what to do about the rest
    Doctor(doctor::DoctorArgs),
    /// Look after what is kept on this machine
    #[command(subcommand, arg_required_else_help = true)]
    System(system::System),
    /// Run the pods of a manifest, here, without a cluster
    #[command(subcommand, arg_required_else_help = true)]
    Kube(kube::Kube),
    /// Be a node of a Kubernetes cluster, or of none on a directory of manifests
    Node(Box<node::NodeArgs>),
    /// Print a completion script for a shell
    #[command(after_help = "Example:
  samara completion bash > /etc/bash_completion.d/samara")]
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages
    Man(manual::ManArgs),
}

/// Parses, runs, and turns the outcome into an exit code.
pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run(args) => run::main(*args),
        Verb::Ps(args) => verbs::ps::main(args),
        Verb::Logs(args) => verbs::logs::main(args),
        Verb::Exec(args) => verbs::exec::main(args),
        Verb::Attach(args) => verbs::attach::main(args),
        Verb::Cp(args) => verbs::cp::main(args),
        Verb::Rename(args) => verbs::rename::main(args),
        Verb::Port(args) => verbs::port::main(args),
        Verb::Stop(args) => verbs::stop::main(args),
        Verb::Start(args) => verbs::start::main(args),
        Verb::Restart(args) => verbs::start::restart(args),
        Verb::Kill(args) => verbs::kill::main(args),
        Verb::Rm(args) => verbs::rm::main(args),
        Verb::Wait(args) => verbs::wait::main(args),
        Verb::Stats(args) => verbs::stats::main(args),
        Verb::Top(args) => verbs::top::main(args),
        Verb::Inspect(args) => verbs::inspect::main(args),
        Verb::Pull(args) => image::pull::main(args),
        Verb::Push(args) => image::push::main(args),
        Verb::Images(args) => image::list::main(args),
        Verb::Tag(args) => image::tag::main(args),
        Verb::Rmi(args) => image::remove::main(args),
        Verb::Save(args) => image::archive::save(args),
        Verb::Load(args) => image::archive::load(args),
        Verb::Build(args) => image::build::main(args),
        Verb::Compile(args) => image::compile::main(args),
        Verb::Login(args) => image::login::login(args),
        Verb::Logout(args) => image::login::logout(args),
        Verb::Doctor(args) => doctor::main(args),
        Verb::System(args) => system::main(args),
        Verb::Kube(verb) => kube::main(verb),
        Verb::Man(args) => manual::main(&args, Cli::command()),
        Verb::Node(args) => {
            log_to_stderr("info");
            node::main(*args)
        }
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "samara", &mut script);
            crate::format::print(script).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| match error.downcast_ref() {
        // Who pressed the keys knows.
        Some(Interrupted(signal)) => ExitCode::from(128 + signal),
        None => {
            tell::report(&error);
            ExitCode::from(FAILED)
        }
    })
}

/// Docker's exit code for "it was not the guest".
const FAILED: u8 = 125;

/// A node logs what a person would want to know of; `RUST_LOG` says otherwise.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = io::stderr().is_terminal() && colour::Colour::of_stderr() == colour::Colour::Shown;
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(io::stderr).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        fn check(command: &clap::Command) {
            let is_leaf = command.get_subcommands().next().is_none();
            // The node's flags are the kubelet's, and its documents have the examples.
            if is_leaf && command.get_name() != "node" {
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("samara "), "{} has no example", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        Cli::command().get_subcommands().for_each(check);
    }
}
