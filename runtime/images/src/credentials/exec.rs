//! Programs that know credentials: run with a text, for a text, within a time and a length.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// The kubelet's own limit for plugins.
pub(super) const LONGEST_TIME: Duration = Duration::from_secs(60);
const LONGEST_ANSWER: u64 = 1 << 20;
/// Of what it complains, this much is shown.
const LONGEST_COMPLAINT: u64 = 512;

/// A program gave no credentials.
#[derive(Debug, Error)]
pub enum ExecError {
    /// It cannot be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Which.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("{program} did not end within {} s", .longest.as_secs_f32())]
    Time {
        /// Which.
        program: String,
        /// How long it had.
        longest: Duration,
    },
    /// It said more than it may.
    #[error("{program} answers with more than {LONGEST_ANSWER} bytes")]
    TooLong {
        /// Which.
        program: String,
    },
    /// It failed.
    #[error("{program} failed ({status}): {complaint}")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// What it wrote to its standard error, shortened; else its standard output, for which helpers take it.
        complaint: String,
        /// What it wrote to its standard output, shortened: some helpers say there what they lack. Not in the message.
        output: String,
    },
    /// Its answer is not of the protocol. Says nothing of the answer, which may hold a secret.
    #[error("{program} gave an answer that is not of its protocol: {problem}")]
    Answer {
        /// Which.
        program: String,
        /// What is wrong.
        problem: String,
    },
}

/// A program and what it is given.
pub(super) struct Exec<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) environment: &'a [(String, String)],
    pub(super) input: &'a [u8],
    pub(super) longest: Duration,
}

impl Exec<'_> {
    /// What it answers. Ends it, and what it started, if it takes too long or says too much.
    pub(super) async fn run(&self) -> Result<Vec<u8>, ExecError> {
        let program = self.program.display().to_string();
        let unrunnable = |source| ExecError::Run { program: program.clone(), source };
        let mut child = Command::new(self.program)
            .args(self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(unrunnable)?;
        let _group = Group(child.id());
        let (mut input, output, complaint) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let works = async {
            let gives = async {
                if let Some(mut input) = input.take() {
                    // One that does not read is no failure.
                    let _given = input.write_all(self.input).await;
                }
            };
            let ((), output, complaint) =
                tokio::join!(gives, bounded(output, LONGEST_ANSWER), bounded(complaint, LONGEST_COMPLAINT));
            let (output, complaint) = (output.map_err(unrunnable)?, complaint.map_err(unrunnable)?);
            if output.len() as u64 > LONGEST_ANSWER {
                return Err(ExecError::TooLong { program: program.clone() });
            }
            let status = child.wait().await.map_err(unrunnable)?;
            if status.success() {
                return Ok(output);
            }
            let (output, complaint) = (line(&output), line(&complaint));
            let complaint = if complaint.is_empty() { output.clone() } else { complaint };
            Err(ExecError::Failed { program: program.clone(), status: status.to_string(), complaint, output })
        };
        let late = |_| ExecError::Time { program: program.clone(), longest: self.longest };
        timeout(self.longest, works).await.map_err(late)?
    }
}

/// The beginning of a text, in one line.
fn line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST_COMPLAINT as usize)]);
    let words: Vec<&str> = text.split(|letter: char| letter.is_control() || letter == ' ').collect();
    words.join(" ").trim().to_owned()
}

/// Ends with what it began, also if nobody waits any more.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // All of it may have ended.
            let _gone = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Up to one byte more than allowed. What follows is read and dropped where it is only shown.
async fn bounded(from: Option<impl AsyncRead + Unpin>, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut from) = from else { return Ok(bytes) };
    (&mut from).take(longest + 1).read_to_end(&mut bytes).await?;
    if longest == LONGEST_COMPLAINT {
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, longest: Duration) -> Result<String, ExecError> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let environment = [("NAME".to_owned(), "value".to_owned())];
        let exec = Exec {
            program: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &environment,
            input: b"in",
            longest,
        };
        exec.run().await.map(|output| String::from_utf8(output).unwrap())
    }

    #[tokio::test]
    async fn a_program_is_given_its_input_and_its_answer_comes_back() {
        let longest = Duration::from_secs(20);
        assert_eq!(sh("cat; printf ' %s' $NAME", longest).await.unwrap(), "in value");
        assert_eq!(sh("exec <&-; printf deaf", longest).await.unwrap(), "deaf");
        let failed = sh("echo 'no\tsuch   thing' >&2; exit 3", longest).await.unwrap_err();
        assert!(failed.to_string().ends_with("(exit status: 3): no such   thing"), "{failed}");
        assert!(sh("printf told; exit 1", longest).await.unwrap_err().to_string().ends_with("told"));
        let failed = sh("printf 'none here\n'; echo warning >&2; exit 1", longest).await.unwrap_err();
        let ExecError::Failed { complaint, output, .. } = &failed else { panic!("{failed}") };
        assert_eq!((complaint.as_str(), output.as_str()), ("warning", "none here"));
        assert!(matches!(sh("head -c 2000000 /dev/zero", longest).await, Err(ExecError::TooLong { .. })));
        assert!(sh("head -c 2000000 /dev/zero >&2; printf ok", longest).await.is_ok());
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_ended_with_all_that_it_began() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("child");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        // However slow the machine is, in one of these times it comes so far.
        let mut longest = Duration::from_millis(500);
        let child = loop {
            let error = sh(&script, longest).await.unwrap_err();
            assert!(matches!(error, ExecError::Time { .. }), "{error}");
            match std::fs::read_to_string(&file) {
                Ok(child) if child.ends_with('\n') => break child,
                Ok(_) | Err(_) => longest *= 4,
            }
            assert!(longest < LONGEST_TIME, "it never began");
        };
        let stat = format!("/proc/{}/stat", child.trim());
        // It is gone, or waits to be reaped by whoever inherits it.
        let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(std::time::Instant::now() < deadline, "it lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_is_no_program_is_named() {
        let exec = Exec {
            program: Path::new("/no/such"),
            arguments: &[],
            environment: &[],
            input: b"",
            longest: LONGEST_TIME,
        };
        assert!(exec.run().await.unwrap_err().to_string().starts_with("cannot run /no/such: "));
    }
}
