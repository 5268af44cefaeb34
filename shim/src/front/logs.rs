//! Rotation of CRI logs, as the kubelet does it for other runtimes (`pkg/kubelet/logs/container_log_manager.go`): a log
//! that has reached its size is renamed to `<log>.<time>`, older ones are compressed, the oldest removed.
//!
//! Guarantee: no record is lost or torn. The guest writes to the renamed file until it has taken the new one; one that
//! cannot take it now is offered it until it does.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::open::open_log;
use super::phase::Phase;
use super::process::Process;
use super::tasks::Tasks;
use crate::container::control::Stream;
use samara_shim_client::output::{CriLog, OutputUri};

/// How often sizes are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks after all logs for ever.
pub(crate) async fn keep_small(tasks: Arc<Tasks>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let processes: Vec<_> = tasks.all().iter().flat_map(|task| task.processes()).collect();
        // Together: one that does not answer does not hold up the others.
        futures::future::join_all(processes.iter().map(|process| keep_logs_small(process))).await;
    }
}

async fn keep_logs_small(process: &Process) {
    for (log, stream) in logs(process) {
        let again = process.is_astray(stream);
        if let Err(error) = keep_one_small(process, &log, stream).await {
            let (process, log, error) = (process.name(), log.path.display(), super::error::chain(&*error));
            // Once, not every second.
            match again {
                false => tracing::warn!(process, %log, error, "rotate"),
                true => tracing::debug!(process, %log, error, "rotate"),
            }
        }
    }
}

/// The rotated logs of a process, and which of its streams each holds.
fn logs(process: &Process) -> Vec<(CriLog, Stream)> {
    if !matches!(process.phase(), Phase::Running { .. }) {
        return Vec::new();
    }
    let cri = |uri: &str| match uri.parse() {
        Ok(OutputUri::Cri(log)) if log.max_size.is_some() => Some(log),
        _ => None,
    };
    let (stdout, stderr) = (&process.record.stdout, &process.record.stderr);
    if stdout == stderr || process.record.terminal {
        return cri(stdout).map(|log| (log, Stream::Both)).into_iter().collect();
    }
    let streams = [cri(stdout).map(|log| (log, Stream::Stdout)), cri(stderr).map(|log| (log, Stream::Stderr))];
    streams.into_iter().flatten().collect()
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn keep_one_small(process: &Process, log: &CriLog, stream: Stream) -> Result<(), Failure> {
    let size = match fs::metadata(&log.path) {
        Ok(_) if process.is_astray(stream) => return hand_over(process, log, stream).await,
        Ok(about) => about.len(),
        // Somebody removed or moved it: the guest gets a new one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return hand_over(process, log, stream).await;
        }
        Err(error) => return Err(error.into()),
    };
    if log.max_size.is_none_or(|most| size < most) {
        return Ok(());
    }
    let rotated = rotated_name(&log.path, jiff::Timestamp::now());
    if rotated.exists() {
        // Twice within a second: the next look will do.
        return Ok(());
    }
    fs::rename(&log.path, &rotated)?;
    let handed_over = hand_over(process, log, stream).await;
    // Even if the disk has no room for another file: this makes some.
    let older = rotated_logs(&log.path)?;
    let chores = chores(older, &rotated, log.max_files);
    tokio::task::spawn_blocking(move || carry_out(chores)).await??;
    handed_over
}

async fn hand_over(process: &Process, log: &CriLog, stream: Stream) -> Result<(), Failure> {
    process.goes_astray(stream);
    let file = open_log(&log.path)?;
    Ok(process.replace_log(stream, file).await?)
}

/// `<log>.20260102-030405`, in UTC.
fn rotated_name(log: &Path, now: jiff::Timestamp) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
    name.into()
}

/// Rotated files beside `log`.
fn rotated_logs(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    let ours = entries.into_iter().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    Ok(ours.map(|entry| entry.path()).collect())
}

/// What is to be done with rotated logs.
#[derive(Debug, PartialEq, Eq)]
struct Chores {
    compress: Vec<PathBuf>,
    remove: Vec<PathBuf>,
}

/// The newest rotated file stays as it is, for those who read it now; leftovers of an interrupted compression go. It is the
/// newest also when the clock was put back since the others were.
fn chores(mut rotated: Vec<PathBuf>, newest: &Path, max_files: u32) -> Chores {
    let ends_with = |path: &PathBuf, end| path.extension().is_some_and(|extension| extension == end);
    let (mut remove, mut rest): (Vec<_>, Vec<_>) = rotated.drain(..).partition(|path| ends_with(path, "tmp"));
    // The time is in the name: newest first.
    rest.sort_by(|a, b| (b == newest).cmp(&(a == newest)).then_with(|| b.cmp(a)));
    let kept = usize::try_from(max_files.saturating_sub(1)).unwrap_or(usize::MAX);
    remove.extend(rest.split_off(rest.len().min(kept)));
    let compress = rest.into_iter().skip(1).filter(|path| !ends_with(path, "gz")).collect();
    Chores { compress, remove }
}

fn carry_out(chores: Chores) -> io::Result<()> {
    chores.remove.iter().try_for_each(fs::remove_file)?;
    chores.compress.iter().try_for_each(|path| compress(path))
}

fn compress(path: &Path) -> io::Result<()> {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let temporary = with(".tmp");
    let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(temporary, with(".gz"))?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_rotated_log_is_named_by_its_time() {
        let now = "2026-01-02T03:04:05.9Z".parse().expect("time");
        assert_eq!(rotated_name(Path::new("/l/0.log"), now), Path::new("/l/0.log.20260102-030405"));
    }

    #[test]
    fn the_newest_stays_plain_older_ones_are_compressed_and_the_oldest_go() {
        let rotated = paths(&[
            "l.20260103-000000",
            "l.20260101-000000.gz",
            "l.20260104-000000",
            "l.20260102-000000.gz",
            "l.x.tmp",
        ]);
        let expected =
            Chores { compress: paths(&["l.20260103-000000"]), remove: paths(&["l.x.tmp", "l.20260101-000000.gz"]) };
        assert_eq!(chores(rotated, Path::new("l.20260104-000000"), 4), expected);
        assert_eq!(chores(paths(&["l.1"]), Path::new("l.1"), 2), Chores { compress: vec![], remove: vec![] });
        assert_eq!(chores(vec![], Path::new("l.1"), 5), Chores { compress: vec![], remove: vec![] });
        let put_back = chores(paths(&["l.3", "l.1", "l.2"]), Path::new("l.1"), 3);
        assert_eq!(put_back, Chores { compress: paths(&["l.3"]), remove: paths(&["l.2"]) });
    }

    #[test]
    fn a_compressed_log_reads_as_before() {
        use std::io::Read as _;
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("0.log.20260102-030405");
        fs::write(&path, "line\n".repeat(1000)).expect("log");
        compress(&path).expect("compressed");
        assert!(!path.exists());
        let mut text = String::new();
        let file = File::open(dir.path().join("0.log.20260102-030405.gz")).expect("gz");
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("text");
        assert_eq!(text, "line\n".repeat(1000));
    }
}
