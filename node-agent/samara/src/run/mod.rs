//! `samara run`: a container without a cluster, through the same front, zygote and container process.

mod io;
mod program;
mod spec;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rand::RngExt as _;
use samara_shim_client::bundle::Bundle;
use samara_shim_client::client::{CreateTask, Standard};
use samara_shim_client::front::{CODE_DIR, FrontConfig, start_front};
use tokio::signal::unix::{SignalKind, signal};

use self::io::Streams;
use self::program::Program;

/// What `samara run` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara run hello.wasm
  samara run -e GREETING=hi -v ./data:/data:ro registry.example/team/app:v1 --flag value
  samara run --memory 64Mi --cpus 0.5 -i registry.example/filter:latest < input

The exit code is the guest's own; 134 a trap, 137 out of memory or killed, 125 when Samara itself failed.")]
pub(crate) struct RunArgs {
    /// A wasm file, or an image reference
    image: String,
    /// Arguments for the guest
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
    /// Set an environment variable (KEY=VALUE, or KEY to take it from here)
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Show a host directory or file to the guest
    #[arg(short, long = "volume", value_name = "HOST:GUEST[:ro]")]
    volume: Vec<String>,
    /// Keep standard input open and pass it on
    #[arg(short, long)]
    interactive: bool,
    /// Memory limit, for instance 64Mi
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// CPU limit, for instance 0.5
    #[arg(long, value_name = "CPUS")]
    cpus: Option<f64>,
    /// Working directory of the guest
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long)]
    entrypoint: Option<String>,
    /// User (and group) id the process runs as
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Port a wasi:http guest listens on
    #[arg(short, long, default_value_t = 8080)]
    port: u16,
    /// Fetch the image even if it is here
    #[arg(long)]
    pull: bool,
    /// Images and compiled code
    #[arg(long, default_value = "/var/lib/samara", env = "SAMARA_ROOT_DIR")]
    root_dir: PathBuf,
    /// Sockets and bundles
    #[arg(long, default_value = "/run/samara", env = "SAMARA_RUN_DIR")]
    run_dir: PathBuf,
}

/// Runs it to its end; the guest's exit code is ours.
pub(crate) fn main(args: RunArgs) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("a sandbox needs namespaces and cgroups, which only root may make: run `sudo samara run ...`");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: RunArgs) -> Result<ExitCode> {
    let program = program::find(&args).await?;
    let id = new_id();
    // The path of a socket has at most 107 bytes.
    let dir = args.run_dir.join("cli").join(&id[..16]);
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let outcome = run_in(&args, &program, &id, &dir).await;
    fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    outcome
}

async fn run_in(args: &RunArgs, program: &Program, id: &str, dir: &std::path::Path) -> Result<ExitCode> {
    let bundle = Bundle::new(dir.join("bundle"));
    fs::create_dir_all(bundle.rootfs())?;
    let spec = spec::spec(args, program, id)?;
    spec.save(bundle.config()).context("write the bundle's config.json")?;
    let streams = Streams::make(dir, args.interactive)?;

    let exe = std::env::current_exe().context("find this program's own file")?;
    let code = args.root_dir.join("code").display().to_string();
    let front = FrontConfig { exe, dir: dir.join("front"), env: [(CODE_DIR.to_owned(), code)].into() };
    let shim = start_front(&front).await?;
    let task = CreateTask {
        id: id.to_owned(),
        bundle: bundle.dir().to_owned(),
        rootfs: program.rootfs(dir)?,
        standard: Standard {
            stdin: streams.stdin_uri(),
            stdout: streams.stdout_uri(),
            stderr: streams.stderr_uri(),
            terminal: false,
        },
    };
    let outcome = async {
        shim.create(&task).await.context("create the container")?;
        let mut copies = streams.copy()?;
        shim.start(id, "").await.context("start the container")?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (mut asked, mut input_closed) = (0, false);
        let waiting = shim.wait(id, "");
        tokio::pin!(waiting);
        let exit = loop {
            let asked_by = tokio::select! {
                exit = &mut waiting => break exit.context("wait for the container")?,
                ended = &mut copies.stdin_ended, if !input_closed => {
                    input_closed = true;
                    if ended.is_ok() {
                        shim.close_io(id, "").await.context("close the guest's standard input")?;
                    }
                    continue;
                }
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            };
            // The second time the user means it.
            asked += 1;
            shim.kill(id, "", if asked > 1 { 9 } else { asked_by }, true).await.context("stop the container")?;
        };
        copies.finish().await?;
        shim.delete(id, "").await.context("delete the container")?;
        anyhow::Ok(exit)
    }
    .await;
    if outcome.is_err() {
        // It may never have come to be, or be gone: what is left over is the next two lines' business.
        let _ = shim.kill(id, "", 9, true).await;
        let _ = shim.delete(id, "").await;
    }
    shim.shutdown().await.context("end the front")?;
    let exit = outcome?;
    Ok(ExitCode::from(u8::try_from(exit.code).unwrap_or(255)))
}

/// 64 hexadecimal digits, as container runtimes name containers.
fn new_id() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
