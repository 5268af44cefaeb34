//! What a guest's imports would get here, in a sentence each. Pure but for asking the runtime what there is.

use samara_runtime::code;
use serde::Serialize;

/// One import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Grant {
    pub(crate) import: String,
    pub(crate) given: bool,
    /// What it gets; none if it is not given.
    #[serde(rename = "as")]
    what: Option<&'static str>,
}

impl Grant {
    /// For people.
    pub(crate) fn text(&self) -> &'static str {
        self.what.unwrap_or(if self.given { "" } else { "nothing: this node does not have it" })
    }
}

/// `runs`: whether all of it was linked, so that what is not known asks for nothing but types.
pub(crate) fn of(imports: &[String], runs: bool) -> Vec<Grant> {
    let functions: Vec<String> =
        code::functions().unwrap_or_default().into_iter().map(|(module, name)| format!("{module} {name}")).collect();
    let one = |import: &String| {
        // Functions of modules are named with a blank, interfaces without.
        let known = match import.contains(' ') {
            true => functions.contains(import),
            false => code::admit(std::slice::from_ref(import)).is_ok(),
        };
        let what = if known { what(import) } else { runs.then_some(TYPES) };
        Grant { import: import.clone(), given: known || runs, what }
    };
    imports.iter().map(one).collect()
}

const TYPES: &str = "types alone: nothing is asked for";
const ENVIRONMENT: &str = "the container's arguments and environment";
const CLOCKS: &str = "this machine's clocks";
const FILES: &str = "the image's root and what is mounted in it, no other file";
const STREAMS: &str = "reading, writing and waiting for what it has";
const RANDOM: &str = "the kernel's random numbers";
const END: &str = "its own end, with an exit code";
const STOP: &str = "word that it is to stop, and how long it has";

/// The beginning of an import's name, and what it gets. The first that fits counts.
const GIVEN: [(&str, &str); 27] = [
    ("wasi:cli/environment", ENVIRONMENT),
    ("wasi:cli/exit", END),
    ("wasi:cli/std", "the container's input and output"),
    ("wasi:cli/terminal-", "the terminal of -t, if there is one"),
    ("wasi:clocks/", CLOCKS),
    ("wasi:filesystem/", FILES),
    ("wasi:http/outgoing-handler", "requests by HTTP and HTTPS, from the container's own address"),
    ("wasi:http/incoming-handler", "nothing to call: types alone"),
    ("wasi:http/types", "requests and answers, as values"),
    ("wasi:io/", STREAMS),
    ("wasi:random/", RANDOM),
    ("wasi:sockets/ip-name-lookup", "names, as the container's DNS servers know them"),
    ("wasi:sockets/", "TCP and UDP, at the container's own address"),
    ("wasi:config/store", "the container's environment"),
    ("samara:process/stop", STOP),
    ("wasi_snapshot_preview1 args_", ENVIRONMENT),
    ("wasi_snapshot_preview1 environ_", ENVIRONMENT),
    ("wasi_snapshot_preview1 clock_", CLOCKS),
    ("wasi_snapshot_preview1 path_", FILES),
    ("wasi_snapshot_preview1 fd_", STREAMS),
    ("wasi_snapshot_preview1 poll_", STREAMS),
    ("wasi_snapshot_preview1 sched_", STREAMS),
    ("wasi_snapshot_preview1 random_", RANDOM),
    ("wasi_snapshot_preview1 proc_", END),
    ("wasi_snapshot_preview1 sock_", "an error: preview 1 has no sockets here"),
    ("wasi_unstable ", "what preview 1 gives, under its older name"),
    ("env ", "what its toolchain expects of every host"),
];

fn what(import: &str) -> Option<&'static str> {
    GIVEN.iter().find(|(begins, _)| import.starts_with(begins)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_the_runtime_has_is_said_in_a_sentence() {
        let functions = code::functions().unwrap().into_iter().map(|(module, name)| format!("{module} {name}"));
        for import in code::interfaces().chain(functions) {
            assert!(what(&import).is_some(), "{import}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_given() {
        let imports =
            ["wasi:sockets/tcp@0.2.0", "acme:db/sql@1.0.0", "wasi_snapshot_preview1 fd_wrote"].map(String::from);
        let grants = of(&imports, false);
        assert_eq!(grants.iter().map(|grant| grant.given).collect::<Vec<_>>(), [true, false, false]);
        assert!(grants[0].text().contains("own address") && grants[1].text().starts_with("nothing"));
        assert_eq!(of(&imports[1..2], true)[0].text(), TYPES);
    }
}
