//! The query of an exec or attach: which streams, and the command (kubelet: `remotecommand.NewOptions`).

use super::super::logs::query::form;

/// The streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    /// Never with a terminal: there is one stream.
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Nothing is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("you must specify at least 1 of stdin, stdout, stderr")]
pub(super) struct NoStream;

/// The kubelet's own names (`input`) and the API server's (`stdin`).
pub(super) fn wanted(query: &str) -> Result<Wanted, NoStream> {
    let fields = form(query);
    let is_set = |names: [&str; 2]| {
        fields.iter().any(|(key, value)| names.contains(&key.as_str()) && (value == "1" || value == "true"))
    };
    let tty = is_set(["tty", "tty"]);
    let wanted = Wanted {
        stdin: is_set(["input", "stdin"]),
        stdout: is_set(["output", "stdout"]),
        stderr: is_set(["error", "stderr"]) && !tty,
        tty,
    };
    if wanted.stdin || wanted.stdout || wanted.stderr { Ok(wanted) } else { Err(NoStream) }
}

/// Each `command` is one argument, in order.
pub(super) fn command(query: &str) -> Vec<String> {
    form(query).into_iter().filter(|(key, _)| key == "command").map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_asked_for_by_either_name() {
        let table = [
            ("input=1&output=1&error=1", Ok((true, true, true, false))),
            ("stdin=true&stdout=true&stderr=true", Ok((true, true, true, false))),
            ("output=1&tty=0", Ok((false, true, false, false))),
            ("input=1&output=1&error=1&tty=1", Ok((true, true, false, true))),
            ("output=0&command=ls", Err(NoStream)),
            ("error=1&tty=1", Err(NoStream)),
            ("", Err(NoStream)),
        ];
        for (query, expected) in table {
            let got = wanted(query).map(|wanted| (wanted.stdin, wanted.stdout, wanted.stderr, wanted.tty));
            assert_eq!(got, expected, "{query}");
        }
    }

    #[test]
    fn a_command_keeps_its_order_its_spaces_and_its_empty_words() {
        assert_eq!(
            command("command=echo&output=1&command=two+words&command=&command=%26"),
            ["echo", "two words", "", "&"]
        );
    }
}
