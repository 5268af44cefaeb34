//! Where a container's output goes: the URI in a task request's `stdout` and `stderr`.
//!
//! | form | meaning |
//! |---|---|
//! | `` (empty) | `/dev/null` |
//! | `/path` or `fifo:///path` | a fifo, opened `O_RDWR`, so that neither side waits for the other |
//! | `file:///path` | appended to, raw bytes |
//! | `cri:///path?max-size=BYTES&max-files=N` | CRI log records (`<RFC3339Nano> stdout F text`), rotated by the front |
//! | `binary:///path?args`, `binary-v2:///path?args` | a logging program as containerd starts them |
//!
//! stdout and stderr of a container may name the same `cri://` file; each record says which stream it is. In paths and
//! values `%XX` stands for a byte.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A parsed URI. `Display` gives it back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OutputUri {
    /// Dropped.
    #[default]
    Null,
    /// A fifo that somebody else made and reads.
    Fifo(PathBuf),
    /// Raw bytes, appended.
    File(PathBuf),
    /// Records in the format of the CRI.
    Cri(CriLog),
    /// A program that reads the output from its descriptors 3 and 4.
    Binary(LogProgram),
}

impl OutputUri {
    /// The program, if it is one that takes the output.
    pub fn program(&self) -> Option<&LogProgram> {
        match self {
            Self::Binary(program) => Some(program),
            Self::Null | Self::Fifo(_) | Self::File(_) | Self::Cri(_) => None,
        }
    }
}

/// A program that takes a container's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProgram {
    pub path: PathBuf,
    /// Its arguments: each key, and its value, which may be empty, as the next.
    pub args: Vec<(String, String)>,
    pub ready: ReadyBy,
}

/// How it says over its descriptor 5 that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyBy {
    /// `binary`: it closes it, with or without a byte before.
    Closing,
    /// `binary-v2`: it writes a byte. One that only closes it has failed.
    Byte,
}

/// A log in the format of the CRI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriLog {
    /// The file that is written now; rotated ones stand beside it.
    pub path: PathBuf,
    /// Bytes after which it is rotated; `None`: never.
    pub max_size: Option<u64>,
    /// Files kept in all, this one included; at least 2 when rotated (kubelet's `containerLogMaxFiles` asks the same).
    pub max_files: u32,
}

impl CriLog {
    /// Kubelet's `containerLogMaxFiles` default.
    pub const DEFAULT_MAX_FILES: u32 = 5;

    /// A log that is not rotated.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), max_size: None, max_files: Self::DEFAULT_MAX_FILES }
    }
}

/// Why a URI is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    #[error("output {0:?}: unknown scheme")]
    Scheme(String),
    #[error("output {0:?}: the path is not absolute")]
    Path(String),
    #[error("output {uri:?}: {key} is not {wanted}")]
    Parameter { uri: String, key: String, wanted: &'static str },
}

impl FromStr for OutputUri {
    type Err = OutputError;

    fn from_str(uri: &str) -> Result<Self, OutputError> {
        if uri.is_empty() {
            return Ok(Self::Null);
        }
        if uri.starts_with('/') {
            return absolute(uri.into(), uri).map(Self::Fifo);
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Err(OutputError::Scheme(uri.into()));
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = absolute(decode(path), uri);
        match scheme {
            "fifo" => path.map(Self::Fifo),
            "file" => path.map(Self::File),
            "cri" => cri(path?, query, uri).map(Self::Cri),
            "binary" | "binary-v2" => {
                let ready = if scheme == "binary" { ReadyBy::Closing } else { ReadyBy::Byte };
                Ok(Self::Binary(LogProgram { path: path?, args: pairs(query).collect(), ready }))
            }
            _ => Err(OutputError::Scheme(uri.into())),
        }
    }
}

impl fmt::Display for OutputUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Fifo(path) => write!(f, "fifo://{}", encode(path)),
            Self::File(path) => write!(f, "file://{}", encode(path)),
            Self::Cri(log) => {
                write!(f, "cri://{}?max-files={}", encode(&log.path), log.max_files)?;
                log.max_size.map_or(Ok(()), |size| write!(f, "&max-size={size}"))
            }
            Self::Binary(LogProgram { path, args, ready }) => {
                let version = match ready {
                    ReadyBy::Closing => "",
                    ReadyBy::Byte => "-v2",
                };
                write!(f, "binary{version}://{}", encode(path))?;
                for (index, (key, value)) in args.iter().enumerate() {
                    let mark = if index == 0 { '?' } else { '&' };
                    write!(f, "{mark}{}={}", encode(Path::new(key)), encode(Path::new(value)))?;
                }
                Ok(())
            }
        }
    }
}

fn cri(path: PathBuf, query: &str, uri: &str) -> Result<CriLog, OutputError> {
    let mut log = CriLog::new(path);
    for (key, value) in pairs(query) {
        let wrong = |wanted| OutputError::Parameter { uri: uri.into(), key: key.clone(), wanted };
        match key.as_str() {
            "max-size" => {
                log.max_size = Some(value.parse().ok().filter(|size| *size > 0).ok_or(wrong("bytes, at least 1"))?)
            }
            "max-files" => {
                log.max_files = value.parse().ok().filter(|count| *count >= 2).ok_or(wrong("a number, at least 2"))?
            }
            _ => return Err(wrong("a parameter we know")),
        }
    }
    Ok(log)
}

fn absolute(path: OsString, uri: &str) -> Result<PathBuf, OutputError> {
    let path = PathBuf::from(path);
    let usable = path.is_absolute() && path.file_name().is_some() && !path.as_os_str().as_bytes().contains(&0);
    if usable { Ok(path) } else { Err(OutputError::Path(uri.into())) }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part| decode(part).to_string_lossy().into_owned();
        (text(key), text(value))
    })
}

fn decode(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let byte = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = byte.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (bytes, rest) = match byte {
            Some(byte) => (push(bytes, byte), &tail[2..]),
            None => (push(bytes, first), tail),
        };
    }
    OsString::from_vec(bytes)
}

fn push(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

fn encode(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~:@+,".contains(&byte);
    let bytes = path.as_os_str().as_bytes();
    bytes.iter().map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// CRI log records of a piece of output, each with this time (RFC 3339, to the nanosecond) and stream: a whole line is one `F`, an
/// unfinished one a `P`.
pub fn records(time: &str, stream: &str, text: &[u8]) -> Vec<u8> {
    let mut records = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (line, tag) = line.strip_suffix(b"\n").map_or((line, 'P'), |line| (line, 'F'));
        records.extend_from_slice(format!("{time} {stream} {tag} ").as_bytes());
        records.extend_from_slice(line);
        records.push(b'\n');
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<OutputUri, OutputError> {
        uri.parse()
    }

    #[test]
    fn every_form_is_read() {
        let cri =
            |max_size, max_files| OutputUri::Cri(CriLog { path: "/var/log/pods/a/0.log".into(), max_size, max_files });
        let table = [
            ("", OutputUri::Null),
            ("/run/fifo/x-stdout", OutputUri::Fifo("/run/fifo/x-stdout".into())),
            ("fifo:///run/x", OutputUri::Fifo("/run/x".into())),
            ("file:///tmp/out%20put", OutputUri::File("/tmp/out put".into())),
            ("cri:///var/log/pods/a/0.log", cri(None, 5)),
            ("cri:///var/log/pods/a/0.log?max-size=10485760&max-files=3", cri(Some(10_485_760), 3)),
            (
                "binary:///usr/bin/logger?id=x&flag",
                OutputUri::Binary(LogProgram {
                    path: "/usr/bin/logger".into(),
                    args: vec![("id".into(), "x".into()), ("flag".into(), String::new())],
                    ready: ReadyBy::Closing,
                }),
            ),
            ("binary-v2:///x", OutputUri::Binary(LogProgram { path: "/x".into(), args: vec![], ready: ReadyBy::Byte })),
        ];
        for (uri, expected) in table {
            assert_eq!(parse(uri), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let log = CriLog { path: "/var/log/pods/ns_näme?_1/50%/0.log".into(), max_size: Some(1), max_files: 2 };
        let args = vec![("a&b".to_owned(), "c=d".to_owned()), ("e".to_owned(), String::new())];
        for uri in [
            OutputUri::Null,
            OutputUri::Fifo("/a b".into()),
            OutputUri::File("/%41".into()),
            OutputUri::Cri(log),
            OutputUri::Binary(LogProgram { path: "/bin/x".into(), args: args.clone(), ready: ReadyBy::Closing }),
            OutputUri::Binary(LogProgram { path: "/bin/x".into(), args, ready: ReadyBy::Byte }),
        ] {
            assert_eq!(parse(&uri.to_string()), Ok(uri));
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for uri in ["relative", "http://a/b", "cri://", "cri://relative", "file:///", "file:///a%00b", "cri:///a/.."] {
            assert!(parse(uri).is_err(), "{uri}");
        }
        let error = parse("cri:///a?max-size=10Mi").expect_err("not a number of bytes");
        assert_eq!(error.to_string(), r#"output "cri:///a?max-size=10Mi": max-size is not bytes, at least 1"#);
        let error = parse("cri:///a?colour=red").expect_err("unknown parameter");
        assert_eq!(error.to_string(), r#"output "cri:///a?colour=red": colour is not a parameter we know"#);
    }
}
