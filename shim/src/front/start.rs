//! The starter: leaves a front running that is nobody's child, and says where it listens.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::SELF;
use super::args::Publish;
use samara_shim_client::front::SHIM_NAME;

/// Begins the line by which a front says why it does not serve; an address begins with `/`.
pub(super) const FAILED: &str = "failed: ";

type Failure = Box<dyn Error + Send + Sync>;

/// `front --dir`: prints the address.
pub(super) fn front(dir: &Path) -> Result<(), Failure> {
    let address = spawn(dir, None)?;
    writeln!(std::io::stdout(), "{address}")?;
    Ok(())
}

/// Starts a front and gives its address. The front leaves our session and, when we end, has no parent but init.
pub(super) fn spawn(dir: &Path, publish: Option<&Publish>) -> Result<String, Failure> {
    let mut command = Command::new(SELF);
    command.arg0(SHIM_NAME).arg("front").arg("--dir").arg(dir).arg("--serve");
    if let Some(publish) = publish {
        command.args(["--publish", &publish.address, "--namespace", &publish.namespace]);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut address = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut address)?;
    }
    if let Some(why) = address.strip_prefix(FAILED) {
        return Err(format!("the front ended: {}", why.trim()).into());
    }
    if address.ends_with('\n') {
        return Ok(address.trim().to_owned());
    }
    let status = child.wait()?;
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(4096).read_to_string(&mut said)?;
    }
    Err(format!("the front ended with {status}: {}", said.trim()).into())
}
