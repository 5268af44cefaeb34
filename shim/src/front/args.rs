//! The command line, as containerd and the agent write it. Pure.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// containerd: print an address, leave a front running.
    Start(Containerd),
    /// containerd: remove what a dead front left of a task.
    Delete(Containerd),
    /// Print name and version.
    Version,
    /// Print a `RuntimeInfo`.
    Info,
    /// The agent: print an address, leave a front running.
    Front { dir: PathBuf },
    /// The front itself, as the two starters call it, and an upgraded one calls its successor: then it has `inherited`.
    Serve { dir: PathBuf, containerd: Option<Publish>, inherited: bool },
}

/// containerd's flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Containerd {
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) debug: bool,
}

/// Where events go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) address: String,
    pub(crate) namespace: String,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error("flag {0} needs a value")]
    Value(String),
    #[error("unknown argument {0:?}")]
    Unknown(String),
    #[error("nothing to do: expected start, delete, -v, -info or front --dir <dir>")]
    Nothing,
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// Reads arguments without the program's name. Flags in Go's style: one dash or two, `=` or a blank.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut words = Words { args: args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect(), at: 0 };
    if words.args.first().is_some_and(|first| first == "front") {
        words.at = 1;
        return front(&mut words);
    }
    let mut flags = Containerd::default();
    let mut verb = None;
    while let Some(word) = words.next() {
        let (name, value) = split(&word);
        match name {
            "namespace" => flags.namespace = words.value(name, value)?,
            "id" => flags.id = words.value(name, value)?,
            "bundle" => flags.bundle = words.value(name, value)?.into(),
            // Of use to shims that call back; events go where TTRPC_ADDRESS says.
            "address" | "publish-binary" | "socket" => drop(words.value(name, value)?),
            "debug" => flags.debug = true,
            "v" | "version" => return Ok(Command::Version),
            "info" => return Ok(Command::Info),
            "" if word == "start" || word == "delete" => verb = Some(word),
            _ => return Err(ArgsError::Unknown(word)),
        }
    }
    let verb = verb.ok_or(ArgsError::Nothing)?;
    if flags.id.is_empty() {
        return Err(ArgsError::Missing("-id"));
    }
    if flags.namespace.is_empty() {
        return Err(ArgsError::Missing("-namespace"));
    }
    Ok(if verb == "start" { Command::Start(flags) } else { Command::Delete(flags) })
}

fn front(words: &mut Words) -> Result<Command, ArgsError> {
    let (mut dir, mut serve, mut inherited, mut publish) = (None, false, false, Publish::default());
    while let Some(word) = words.next() {
        let (name, value) = split(&word);
        match name {
            "dir" => dir = Some(PathBuf::from(words.value(name, value)?)),
            "serve" => serve = true,
            "inherited" => inherited = true,
            "publish" => publish.address = words.value(name, value)?,
            "namespace" => publish.namespace = words.value(name, value)?,
            _ => return Err(ArgsError::Unknown(word)),
        }
    }
    let dir = dir.ok_or(ArgsError::Missing("--dir"))?;
    if !serve {
        return Ok(Command::Front { dir });
    }
    Ok(Command::Serve { dir, containerd: (!publish.namespace.is_empty()).then_some(publish), inherited })
}

struct Words {
    args: Vec<String>,
    at: usize,
}

impl Words {
    fn next(&mut self) -> Option<String> {
        let word = self.args.get(self.at).cloned();
        self.at += 1;
        word
    }

    fn value(&mut self, name: &str, value: Option<&str>) -> Result<String, ArgsError> {
        value.map(str::to_owned).or_else(|| self.next()).ok_or_else(|| ArgsError::Value(name.into()))
    }
}

/// Name of a flag and the value behind its `=`; no name for another word.
fn split(word: &str) -> (&str, Option<&str>) {
    let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
        return ("", None);
    };
    flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, ArgsError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn containerds_calls_are_read() {
        let flags = || Containerd { namespace: "k8s.io".into(), id: "abc".into(), ..Containerd::default() };
        let table = [
            ("-namespace k8s.io -address /run/c.sock -publish-binary /bin/c -id abc start", Command::Start(flags())),
            (
                "-namespace k8s.io -id abc -bundle /run/b -debug delete",
                Command::Delete(Containerd { bundle: "/run/b".into(), debug: true, ..flags() }),
            ),
            ("--namespace=k8s.io --id=abc start", Command::Start(flags())),
            ("-v", Command::Version),
            ("-info", Command::Info),
            ("front --dir /run/f", Command::Front { dir: "/run/f".into() }),
            ("front --dir /run/f --serve", Command::Serve { dir: "/run/f".into(), containerd: None, inherited: false }),
            (
                "front --dir /run/f --serve --inherited",
                Command::Serve { dir: "/run/f".into(), containerd: None, inherited: true },
            ),
        ];
        for (line, expected) in table {
            assert_eq!(parsed(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let table = [
            ("", "nothing to do: expected start, delete, -v, -info or front --dir <dir>"),
            ("-namespace x start", "-id is missing"),
            ("-id x start", "-namespace is missing"),
            ("-id", "flag id needs a value"),
            ("-colour red start", "unknown argument \"-colour\""),
            ("restart", "unknown argument \"restart\""),
            ("front", "--dir is missing"),
        ];
        for (line, expected) in table {
            assert_eq!(parsed(line).expect_err(line).to_string(), expected, "{line}");
        }
    }
}
