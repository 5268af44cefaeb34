//! What a wasm file is, and whether this machine would run it.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use samara_images::Digest;
use samara_runtime::code::{self, CompileLimits};
use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};

use super::grants::{self, Grant};
use crate::colour::{Colour, Tone};
use crate::format::{bytes, coloured};

/// What its outside says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Face {
    /// `module` or `component`.
    pub(crate) kind: &'static str,
    /// What it is to be run as: `command`, `http server` or `library`.
    pub(crate) role: &'static str,
    /// `preview1`, `0.2`, ...; none if it asks nothing of WASI.
    pub(crate) wasi: Option<String>,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    file: String,
    size: u64,
    digest: String,
    #[serde(flatten)]
    face: Option<Face>,
    /// What each import would get here.
    grants: Vec<Grant>,
    runs: bool,
    /// Why not.
    refusal: Option<String>,
}

impl Report {
    /// For people.
    pub(crate) fn text(&self, colour: Colour) -> String {
        let face = self.face.as_ref();
        let wasi = face.and_then(|face| face.wasi.as_ref()).map(|version| format!(", WASI {version}"));
        let is = face.map(|face| format!("{}, {}{}", face.kind, face.role, wasi.unwrap_or_default()));
        let (tone, runs) = match &self.refusal {
            None => (Tone::Good, "yes"),
            Some(why) => (Tone::Bad, why.as_str()),
        };
        let rows = [
            ("is", is.unwrap_or_else(|| "no WebAssembly".to_owned())),
            ("size", bytes(self.size)),
            ("digest", self.digest.clone()),
            ("exports", face.map(|face| face.exports.join(", ")).unwrap_or_default()),
            ("runs here", runs.to_owned()),
        ];
        let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
        let style = |row, column| colour.style(if (row, column) == (4, 1) { tone } else { Tone::Plain });
        let mut text = coloured(&["FILE", &self.file], &rows, style);
        if !self.grants.is_empty() {
            let rows: Vec<_> =
                self.grants.iter().map(|grant| vec![grant.import.clone(), grant.text().to_owned()]).collect();
            let tone = |row: usize, column| match (column, self.grants[row].given) {
                (1, false) => Tone::Bad,
                (_, _) => Tone::Plain,
            };
            text.push('\n');
            text.push_str(&coloured(&["IMPORT", "GETS"], &rows, |row, column| colour.style(tone(row, column))));
        }
        text
    }
}

/// A file longer than this is no wasm that anything here runs.
const LONGEST: u64 = 512 << 20;

/// Reads it, and asks the compiler whether it would run here.
pub(crate) fn report(path: &Path) -> Result<Report> {
    let size = std::fs::metadata(path).with_context(|| format!("read {}", path.display()))?.len();
    if size > LONGEST {
        bail!("{} has {size} bytes, and no wasm file that runs here has more than {LONGEST}", path.display());
    }
    let content = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let exe = std::env::current_exe().context("find this program's own file")?;
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let compiled = runtime.block_on(code::compile(&exe, file, CompileLimits::default()));
    let face = face(&content).ok();
    Ok(Report {
        grants: face.iter().flat_map(|face| grants::of(&face.imports, compiled.is_ok())).collect(),
        file: path.display().to_string(),
        size,
        digest: Digest::of(&content).to_string(),
        // What cannot be read is what the refusal speaks of.
        face,
        runs: compiled.is_ok(),
        refusal: compiled.err().map(|error| format!("{:#}", anyhow::Error::from(error))),
    })
}

/// Pure.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "thirty kinds of sections, of which six say something of the outside"
)]
pub(crate) fn face(bytes: &[u8]) -> Result<Face> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let (mut component, mut depth) = (false, 0_u32);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::Version { encoding, .. } if depth == 0 => component = *encoding == Encoding::Component,
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    imports.push(format!("{} {}", import.module, import.name));
                }
            }
            Payload::ExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    exports.push(export?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    exports.push(export?.name.name.to_owned());
                }
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let kind = if component { "component" } else { "module" };
    Ok(Face { kind, role: role(&exports), wasi: wasi(&imports, &exports), imports, exports })
}

fn role(exports: &[String]) -> &'static str {
    let has = |wanted: &str| exports.iter().any(|export| export == wanted || export.starts_with(&format!("{wanted}@")));
    if has("wasi:http/incoming-handler") || has("wasi:http/handler") {
        "http server"
    } else if has("wasi:cli/run") || has("_start") {
        "command"
    } else {
        "library"
    }
}

/// The newest that it names.
fn wasi(imports: &[String], exports: &[String]) -> Option<String> {
    let versions = imports.iter().chain(exports).filter_map(|name| {
        if name.starts_with("wasi_snapshot_preview1 ") {
            return Some("preview1".to_owned());
        }
        if name.starts_with("wasi_unstable ") {
            return Some("preview0".to_owned());
        }
        let (_, version) = name.strip_prefix("wasi:")?.split_once('@')?;
        let mut parts = version.split(['.', '-']);
        Some(format!("{}.{}", parts.next()?, parts.next()?))
    });
    // `preview...` sorts behind digits: a component has none of it.
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Face {
        face(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_module_names_functions_and_a_component_interfaces() {
        let module = of(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))"#);
        assert_eq!((module.kind, module.role, module.wasi.as_deref()), ("module", "command", Some("preview1")));
        assert_eq!(module.imports, ["wasi_snapshot_preview1 fd_write"]);
        assert_eq!(module.exports, ["_start"]);
        let component = of(r#"(component
            (import "wasi:cli/stdout@0.2.3" (instance (export "f" (func))))
            (core module (import "inner" "f" (func))))"#);
        assert_eq!((component.kind, component.role, component.wasi.as_deref()), ("component", "library", Some("0.2")));
        assert_eq!(component.imports, ["wasi:cli/stdout@0.2.3"]);
        assert_eq!(of("(module)").wasi, None);
    }

    #[test]
    fn what_is_cut_off_or_no_wasm_is_an_error() {
        let whole = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        assert!(face(&whole[..whole.len() - 3]).is_err());
        assert!(face(b"").is_err());
        assert!(face(b"#!/bin/sh").is_err());
    }
}
