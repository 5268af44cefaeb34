//! Whether this host has what wasm imports; if not, which import, and what we have that is like it.

use super::inspect::{Refusal, Shape};
use crate::engine::Purpose;
use crate::guest::stop;
use crate::host::Host;
use crate::program::{HANDLER, RUN};

/// Interfaces of one version, and what a version must begin with to be served by it. A draft, which has a `-`, is only like itself.
struct Family {
    version: &'static str,
    like: &'static str,
    interfaces: &'static [&'static str],
}

const FAMILIES: [Family; 3] = [
    // Any 0.2 is as good as any other of the same name.
    Family { version: "0.2.12", like: "0.2.", interfaces: &WASI },
    Family { version: "0.2.0-rc.1", like: "0.2.0-rc.1", interfaces: &["wasi:config/store"] },
    Family { version: "0.1.0", like: "0.1.", interfaces: &[stop::INTERFACE] },
];

const WASI: [&str; 31] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    // Without functions, and imported by name all the same.
    "wasi:clocks/timezone",
    "wasi:http/incoming-handler",
];

/// Decides whether it could be linked. `known` are the imports a module may have.
pub(super) fn check(shape: &Shape, known: &[(String, String)]) -> Result<(), Refusal> {
    match shape {
        Shape::Module { imports, has_start } => {
            if let Some((module, name)) = imports.iter().find(|import| !known.contains(import)) {
                return Err(unknown_function(module, name, known));
            }
            if *has_start { Ok(()) } else { Err(Refusal::NoStart) }
        }
        Shape::Component { imports, exports } => match imports.iter().find(|import| !is_known(import)) {
            Some(import) => Err(unknown_interface(import)),
            None => runnable(exports),
        },
    }
}

/// Whether a component with these imports could be linked; else the message that names one, and the nearest there is. For
/// artifacts that tell their imports before they are fetched.
pub fn admit(imports: &[String]) -> Result<(), String> {
    match imports.iter().find(|import| !is_known(import)) {
        Some(import) => Err(unknown_interface(import).to_string()),
        None => Ok(()),
    }
}

/// Every interface that components may import, in the newest version there is of it.
pub fn interfaces() -> impl Iterator<Item = String> {
    FAMILIES.iter().flat_map(|family| family.interfaces.iter().map(|name| format!("{name}@{}", family.version)))
}

/// Every function that modules may import, as module and name; else why the host cannot tell.
pub fn functions() -> Result<Vec<(String, String)>, String> {
    let host = Host::with(Purpose::Compile, 1).and_then(|host| host.module_imports());
    host.map_err(|error| format!("{error:#}"))
}

/// What a host can call, under its names in preview 2 and 3.
const ENTRIES: [&str; 3] = [RUN, HANDLER, "wasi:http/handler"];

/// Refuses a component whose only way in is of another version. One without any is the linker's to refuse.
fn runnable(exports: &[String]) -> Result<(), Refusal> {
    let version = |export: &String| {
        let (interface, version) = export.split_once('@')?;
        ENTRIES.contains(&interface).then(|| version.starts_with("0.2.") && !version.contains('-'))
    };
    if exports.iter().any(|export| version(export) == Some(true)) {
        return Ok(());
    }
    match exports.iter().find(|export| version(export) == Some(false)) {
        Some(other) => Err(Refusal::NotRunnable(format!(
            "the component exports {other}, and this node runs {RUN} and {HANDLER} of 0.2 (preview 2)"
        ))),
        None => Ok(()),
    }
}

fn is_known(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let serves = |family: &Family| match version.contains('-') {
        true => version == family.version,
        false => version.starts_with(family.like),
    };
    FAMILIES.iter().any(|family| family.interfaces.contains(&interface) && serves(family))
}

fn unknown_function(module: &str, name: &str, known: &[(String, String)]) -> Refusal {
    let nearest = closest(name, known.iter().map(|(_, name)| name.as_str()))
        .and_then(|nearest| known.iter().find(|(_, name)| name == nearest))
        .map(|(module, name)| format!("{name} of {module}"));
    Refusal::UnknownImport { import: format!("{name} of {module}"), nearest }
}

fn unknown_interface(import: &str) -> Refusal {
    let interface = import.split('@').next().unwrap_or(import);
    let all = || FAMILIES.iter().flat_map(|family| family.interfaces.iter().map(|name| (*name, family.version)));
    let nearest = closest(interface, all().map(|(name, _)| name))
        .and_then(|nearest| all().find(|(name, _)| *name == nearest))
        .map(|(name, version)| format!("{name}@{version}"));
    Refusal::UnknownImport { import: import.to_owned(), nearest }
}

/// The most similar name, if any is similar enough to be meant.
fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(imports: &[(&str, &str)], has_start: bool) -> Shape {
        let imports = imports.iter().map(|(module, name)| ((*module).into(), (*name).into())).collect();
        Shape::Module { imports, has_start }
    }

    fn known() -> Vec<(String, String)> {
        ["fd_read", "fd_write", "proc_exit"].map(|name| ("wasi_snapshot_preview1".into(), name.into())).to_vec()
    }

    fn message(shape: &Shape) -> String {
        check(shape, &known()).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_function_is_named_with_the_nearest_one() {
        assert_eq!(
            message(&module(&[("wasi_snapshot_preview1", "fd_wrote")], true)),
            "imports fd_wrote of wasi_snapshot_preview1, which this node does not have \
             (the nearest it has is fd_write of wasi_snapshot_preview1)"
        );
        assert_eq!(
            message(&module(&[("env", "fd_write")], true)),
            "imports fd_write of env, which this node does not have \
             (the nearest it has is fd_write of wasi_snapshot_preview1)"
        );
        assert_eq!(message(&module(&[("env", "zzz")], true)), "imports zzz of env, which this node does not have");
    }

    #[test]
    fn an_unknown_interface_is_named_with_the_nearest_one() {
        let component = |import: &str| Shape::Component { imports: vec![import.to_owned()], exports: vec![] };
        assert_eq!(
            message(&component("wasi:http/types@0.3.0")),
            "imports wasi:http/types@0.3.0, which this node does not have (the nearest it has is wasi:http/types@0.2.12)"
        );
        assert_eq!(
            message(&component("wasi:random/insecure-seed@0.2.0-rc-2023-12-05")),
            "imports wasi:random/insecure-seed@0.2.0-rc-2023-12-05, which this node does not have \
             (the nearest it has is wasi:random/insecure-seed@0.2.12)"
        );
        assert_eq!(check(&component("wasi:http/types@0.2.0"), &[]), Ok(()));
        for known in ["wasi:config/store@0.2.0-rc.1", "samara:process/stop@0.1.0"] {
            assert_eq!(check(&component(known), &[]), Ok(()), "{known}");
        }
        assert_eq!(
            message(&component("wasi:config/store@0.2.0-draft")),
            "imports wasi:config/store@0.2.0-draft, which this node does not have \
             (the nearest it has is wasi:config/store@0.2.0-rc.1)"
        );
        assert_eq!(
            message(&component("acme:db/sql@1.0.0")),
            "imports acme:db/sql@1.0.0, which this node does not have"
        );
    }

    #[test]
    fn a_list_of_imports_is_judged_without_the_component() {
        let list = |imports: &[&str]| admit(&imports.iter().map(|import| (*import).to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&["wasi:io/poll@0.2.3", "wasi:cli/stdout@0.2.0"]), Ok(()));
        let refused = list(&["wasi:io/poll@0.2.3", "wasi:io/pool@0.2.0"]).unwrap_err();
        assert_eq!(
            refused,
            "imports wasi:io/pool@0.2.0, which this node does not have (the nearest it has is wasi:io/poll@0.2.12)"
        );
    }

    #[test]
    fn a_component_of_preview_3_is_refused_by_what_it_exports() {
        let exports = |exports: &[&str]| Shape::Component {
            imports: vec![],
            exports: exports.iter().map(|&export| export.to_owned()).collect(),
        };
        for other in [
            "wasi:cli/run@0.3.0",
            "wasi:http/handler@0.3.0-rc-2026-01-06",
            "wasi:cli/run@1.0.0",
            "wasi:cli/run@0.2.0-rc-2023-12-05",
        ] {
            assert_eq!(
                message(&exports(&["a:b/c@0.1.0", other])),
                format!(
                    "the component exports {other}, and this node runs wasi:cli/run and \
                     wasi:http/incoming-handler of 0.2 (preview 2)"
                ),
            );
        }
        for fine in [&["wasi:cli/run@0.3.0", "wasi:cli/run@0.2.3"][..], &["wasi:http/incoming-handler@0.2.0"], &[]] {
            assert_eq!(check(&exports(fine), &[]), Ok(()), "{fine:?}");
        }
    }

    #[test]
    fn a_library_is_no_program() {
        assert_eq!(check(&module(&[], false), &known()), Err(Refusal::NoStart));
        assert_eq!(check(&module(&[("wasi_snapshot_preview1", "fd_read")], true), &known()), Ok(()));
    }
}
