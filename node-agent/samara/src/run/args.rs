//! What `samara run` takes, as it is typed. Docker's flags, where they mean the same.

use std::path::PathBuf;

use clap::Args;

use super::program::Pull;
use crate::container::Network;
use crate::image::registries::Registries;
use crate::place::Place;
use crate::supervise::restart::RestartPolicy;

/// What `samara run` takes.
#[derive(Debug, Args)]
#[command(
    override_usage = "samara run [OPTIONS] <IMAGE> [ARGS]...",
    after_help = "Examples:
  samara run hello.wasm
  samara run --rm -e GREETING=hi -v ./data:/data:ro registry.example/team/app:v1 --flag value
  samara run --rm --memory 64m --cpus 0.5 -i registry.example/filter:latest < input > output
  samara run -d --name web --restart on-failure:5 -p 8080:8080 registry.example/web:v1

Exit codes: the guest's own; 134 a trap, 137 out of memory or killed, 125 when Samara itself failed.
Without --rm the container stays for `samara logs` and `samara start`, until `samara rm`."
)]
pub(crate) struct RunArgs {
    /// A wasm file or an image reference, and arguments for the guest
    // One list: all that follows the image is the guest's, even if it looks like a flag of ours.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "ARGS"], num_args = 1..)]
    pub(super) command: Vec<String>,
    /// Leave it running, and print its id
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Keep standard input open and pass it on
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give the guest a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    pub(super) rm: bool,
    /// Name of the container [default: one of our own]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Set an environment variable (NAME alone: with its value here)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Set the environment variables in a file, one on each line
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Show a host directory or file, or a named volume, to the guest
    #[arg(short, long = "volume", value_name = "HOST|NAME:GUEST[:ro]")]
    pub(super) volume: Vec<String>,
    /// The same in more words: type=bind|volume|tmpfs,source=...,target=... and readonly if wanted
    #[arg(long, value_name = "OPTIONS")]
    pub(super) mount: Vec<String>,
    /// Give the guest a directory in memory
    #[arg(long, value_name = "GUEST[:size=BYTES,mode=OCTAL]")]
    pub(super) tmpfs: Vec<String>,
    /// Pass connections to a port of this machine on to the guest (GUEST alone: any free port)
    #[arg(short, long = "publish", value_name = "[[IP:]HOST:]GUEST[/udp]")]
    pub(super) publish: Vec<String>,
    /// Memory limit, for instance 64m
    #[arg(short, long, value_name = "BYTES")]
    pub(super) memory: Option<String>,
    /// CPU limit, for instance 0.5
    #[arg(long, value_name = "CPUS")]
    pub(super) cpus: Option<f64>,
    /// How it is on the network
    #[arg(long, value_enum, default_value_t)]
    pub(super) network: Network,
    /// User and group the process runs as, names (of the image) or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub(super) read_only: bool,
    /// When to start it again: no, on-failure or on-failure:TIMES, always, unless-stopped (with -d)
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub(super) restart: RestartPolicy,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(super) entrypoint: Option<String>,
    /// Working directory of the guest
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// Host name the guest sees [default: the beginning of its id]
    #[arg(long)]
    pub(super) hostname: Option<String>,
    /// Note something on the container, for `ps` and `inspect`
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(super) label: Vec<String>,
    /// Seconds between the request to stop and SIGKILL
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) stop_timeout: u32,
    /// When to fetch the image
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pub(super) pull: Pull,
    #[command(flatten)]
    pub(super) registries: Registries,
    #[command(flatten)]
    pub(super) place: Place,
}
