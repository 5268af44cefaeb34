//! The guest's part of a plan, in the runtime's terms.

use std::time::Duration;

use samara_runtime::{Dns, Http, Network, Output, Stdin, Stream, World};

use super::control::serve::Streams;
use super::files::{FileError, Files};
use crate::plan::{self, Guest, GuestHttp, GuestNetwork, Stdio};

/// Everything the guest sees, and shares of its streams' files, under whose numbers others can be put later.
pub(super) fn world(guest: Guest, stdio: &Stdio, files: &mut Files) -> Result<(World, Streams), FileError> {
    let (stdout, stderr) = outputs(stdio, files)?;
    let stdin = match stdio.stdin {
        None => Stdin::Empty,
        Some(fd) => Stdin::Fd(files.copy(fd, "standard input")?),
    };
    let streams = Streams { stdin: matches!(stdin, Stdin::Fd(_)), stdout: stdout.file(), stderr: stderr.file() };
    let world = World {
        args: guest.args,
        env: guest.env.into_iter().map(variable).collect(),
        cwd: guest.cwd,
        root: "/".into(),
        stdin,
        stdout,
        stderr,
        terminal: stdio.terminal,
        memory_limit: guest.memory_limit,
        cpus: guest.cpus,
        network: network(guest.network),
        http: http(&guest.http),
        on_listen: None,
    };
    Ok((world, streams))
}

/// Each stream has a descriptor of its own, even where two share a file: they are exchanged one by one.
fn outputs(stdio: &Stdio, files: &Files) -> Result<(Output, Output), FileError> {
    let open = |output, what, stream| {
        Ok::<_, FileError>(match output {
            plan::Output::Null => Output::Null,
            plan::Output::Raw(fd) => Output::raw(files.copy(fd, what)?),
            plan::Output::Cri(fd) => Output::cri(files.copy(fd, what)?, stream),
        })
    };
    Ok((open(stdio.stdout, "standard output", Stream::Stdout)?, open(stdio.stderr, "standard error", Stream::Stderr)?))
}

/// A variable without `=` is an empty one.
fn variable(entry: String) -> (String, String) {
    match entry.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (entry, String::new()),
    }
}

fn network(network: GuestNetwork) -> Network {
    Network {
        pod_ips: network.pod_ips,
        loopback: network.loopback,
        dns: Dns {
            servers: network.dns_servers,
            searches: network.dns_searches,
            options: network.dns_options,
            hosts: network.hosts,
        },
    }
}

fn http(http: &GuestHttp) -> Http {
    let default = Http::default();
    Http {
        port: if http.port == 0 { default.port } else { http.port },
        request_timeout: match http.request_timeout_seconds {
            0 => default.request_timeout,
            seconds => Duration::from_secs(u64::from(seconds)),
        },
        reuse: http.reuse.max(1),
        max_body: http.max_body,
        connections: match http.connections {
            0 => default.connections,
            connections => usize::try_from(connections).unwrap_or(usize::MAX),
        },
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Fd;
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    fn files() -> Files {
        let null = || File::options().write(true).open("/dev/null").unwrap().into();
        Files::new(vec![null(), null()])
    }

    #[test]
    fn two_streams_with_one_file_have_two_numbers() {
        let stdio = Stdio {
            stdin: None,
            stdout: plan::Output::Cri(Fd(1)),
            stderr: plan::Output::Cri(Fd(1)),
            terminal: false,
            master: None,
        };
        let (_world, streams) = world(Guest::default(), &stdio, &mut files()).unwrap();
        let [stdout, stderr] = [streams.stdout, streams.stderr].map(|file| file.unwrap().as_raw_fd());
        assert_ne!(stdout, stderr);
    }

    #[test]
    fn a_stream_without_its_file_is_named() {
        let stdio = Stdio {
            stdin: Some(Fd(9)),
            stdout: plan::Output::Null,
            stderr: plan::Output::Null,
            terminal: false,
            master: None,
        };
        let error = world(Guest::default(), &stdio, &mut files()).unwrap_err();
        assert_eq!(error.to_string(), "standard input is file 9 of the plan, which has 2");
    }

    #[test]
    fn values_keep_their_equals_signs() {
        assert_eq!(variable("A=b=c".into()), ("A".into(), "b=c".into()));
        assert_eq!(variable("A".into()), ("A".into(), String::new()));
        assert_eq!(variable("=".into()), (String::new(), String::new()));
    }
}
