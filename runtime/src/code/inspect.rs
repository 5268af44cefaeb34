//! What a file is, from its bytes: what it imports and exports if it is wasm, and what it looks like if it is not.

use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{BinaryReaderError, Encoding, ExternalKind, Parser, Payload, ValidPayload, Validator, WasmFeatures};
use wasmtime::{Engine, Precompiled};

/// Why wasm cannot be compiled or run. Each message is fit for a user and names the thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the file is empty")]
    Empty,
    #[error("is precompiled code, which is never loaded from an image")]
    Precompiled,
    #[error("is not WebAssembly: it looks like {0}")]
    NotWasm(&'static str),
    #[error("the WebAssembly is truncated: it ends at byte {0}")]
    Truncated(u64),
    #[error("is not valid WebAssembly: {message} (at byte {offset})")]
    Invalid { message: String, offset: u64 },
    #[error("imports {import}, which this node does not have{}", in_brackets(.nearest))]
    UnknownImport { import: String, nearest: Option<String> },
    #[error("the module exports no function _start: it is a library, not a program")]
    NoStart,
    #[error("{0}")]
    NotRunnable(String),
    #[error("uses something of WebAssembly that this node does not support: {0}")]
    Unsupported(String),
}

fn in_brackets(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(" (the nearest it has is {nearest})")).unwrap_or_default()
}

/// The outside of valid wasm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Module {
        imports: Vec<(String, String)>,
        has_start: bool,
    },
    Component {
        /// Those of types alone are left out: they ask nothing of the host.
        imports: Vec<String>,
        exports: Vec<String>,
    },
}

/// Reads all but the function bodies.
pub(super) fn inspect(bytes: &[u8]) -> Result<Shape, Refusal> {
    recognise(bytes)?;
    // Features that are known but off are the compiler's to refuse, which names them.
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    let mut depth = 0;
    let mut names = Names::default();
    for payload in parser.parse_all(bytes) {
        let payload = payload.map_err(|error| refusal(&error, bytes))?;
        if depth == 0 {
            names.read(&payload).map_err(|error| refusal(&error, bytes))?;
        }
        if matches!(payload, Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) {
            depth += 1;
        } else if matches!(payload, Payload::End(_)) {
            depth -= 1;
        }
        let valid = validator.payload(&payload).map_err(|error| refusal(&error, bytes))?;
        if let (ValidPayload::End(types), -1) = (valid, depth) {
            return Ok(names.shape(types.as_ref()));
        }
    }
    Err(Refusal::Truncated(bytes.len() as u64))
}

/// Refuses what is not wasm by what it looks like.
fn recognise(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    if let Some(Precompiled::Module | Precompiled::Component) = Engine::detect_precompiled(bytes) {
        return Err(Refusal::Precompiled);
    }
    const WASM: &[u8] = b"\0asm";
    if bytes.starts_with(WASM) {
        return Ok(());
    }
    if WASM.starts_with(bytes) {
        return Err(Refusal::Truncated(bytes.len() as u64));
    }
    let magics: [(&[u8], &str); 12] = [
        (b"\x7fELF", "a Linux program (ELF)"),
        (b"#!", "a script"),
        (b"\x1f\x8b", "a gzip file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"PK\x03\x04", "a zip file"),
        (b"MZ", "a Windows program"),
        (b"\xcf\xfa\xed\xfe", "a macOS program"),
        (b"\xca\xfe\xba\xbe", "a Java class or macOS program"),
        (b"(module", "WebAssembly text, which must be turned into binary form first"),
        (b"(component", "WebAssembly text, which must be turned into binary form first"),
        (b"{", "JSON"),
        (b"<", "HTML or XML"),
    ];
    let known = magics.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name);
    let tar = || (bytes.get(257..262) == Some(b"ustar")).then_some("a tar file");
    let text = || {
        let start = &bytes[..bytes.len().min(512)];
        let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        start.iter().all(printable).then_some("text")
    };
    Err(Refusal::NotWasm(known.or_else(tar).or_else(text).unwrap_or("data of no known form")))
}

fn refusal(error: &BinaryReaderError, bytes: &[u8]) -> Refusal {
    let message = error.message();
    if message.contains("unexpected end") {
        return Refusal::Truncated(bytes.len() as u64);
    }
    Refusal::Invalid { message: message.to_owned(), offset: error.offset() as u64 }
}

#[derive(Default)]
struct Names {
    component: bool,
    module_imports: Vec<(String, String)>,
    component_imports: Vec<String>,
    component_exports: Vec<String>,
    has_start: bool,
}

impl Names {
    fn read(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        if let Payload::Version { encoding, .. } = payload {
            self.component = *encoding == Encoding::Component;
        }
        if let Payload::ImportSection(section) = payload {
            for import in section.clone().into_imports() {
                let import = import?;
                self.module_imports.push((import.module.to_owned(), import.name.to_owned()));
            }
        }
        if let Payload::ExportSection(section) = payload {
            for export in section.clone() {
                let export = export?;
                self.has_start |= export.name == "_start" && export.kind == ExternalKind::Func;
            }
        }
        if let Payload::ComponentImportSection(section) = payload {
            for import in section.clone() {
                self.component_imports.push(import?.name.name.to_owned());
            }
        }
        if let Payload::ComponentExportSection(section) = payload {
            for export in section.clone() {
                self.component_exports.push(export?.name.name.to_owned());
            }
        }
        Ok(())
    }

    fn shape(self, types: TypesRef<'_>) -> Shape {
        if !self.component {
            return Shape::Module { imports: self.module_imports, has_start: self.has_start };
        }
        let asks =
            |name: &String| types.component_item_for_import(name).is_none_or(|item| asks_of_host(types, &item.ty));
        Shape::Component {
            imports: self.component_imports.into_iter().filter(asks).collect(),
            exports: self.component_exports,
        }
    }
}

/// Whether an import needs something to be there: functions and resources do, plain types do not.
fn asks_of_host(types: TypesRef<'_>, entity: &ComponentEntityType) -> bool {
    match entity {
        ComponentEntityType::Instance(id) => types[*id].exports.values().any(|export| asks_of_host(types, &export.ty)),
        ComponentEntityType::Type { .. } => false,
        ComponentEntityType::Module(_)
        | ComponentEntityType::Func(_)
        | ComponentEntityType::Value(_)
        | ComponentEntityType::Component(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn what_is_not_wasm_is_called_what_it_looks_like() {
        for (bytes, looks) in [
            (&b"\x7fELF\x02\x01\x01\0"[..], "a Linux program (ELF)"),
            (b"#!/bin/sh\n", "a script"),
            (b"\x1f\x8b\x08\0", "a gzip file"),
            (b"(module)", "WebAssembly text, which must be turned into binary form first"),
            (b"{\"a\":1}", "JSON"),
            (b"hello\n", "text"),
            (b"\x01\x02\x03\x04", "data of no known form"),
        ] {
            assert_eq!(inspect(bytes), Err(Refusal::NotWasm(looks)));
        }
        assert_eq!(inspect(b""), Err(Refusal::Empty));
    }

    #[test]
    fn every_beginning_of_a_module_is_truncated_or_a_smaller_module() {
        let whole = wat(r#"(module (import "a" "b" (func)) (func (export "_start")) (data "text") (memory 1))"#);
        assert!(inspect(&whole).is_ok());
        for length in 1..whole.len() {
            match inspect(&whole[..length]) {
                Err(Refusal::Truncated(at)) => assert_eq!(at, length as u64),
                // Cut between two sections: only a missing section can be told.
                Ok(_) | Err(Refusal::Invalid { .. }) => {}
                other => panic!("{length}: {other:?}"),
            }
        }
        assert_eq!(inspect(&whole[..whole.len() - 1]), Err(Refusal::Truncated(whole.len() as u64 - 1)));
        assert_eq!(inspect(&whole[..3]), Err(Refusal::Truncated(3)));
    }

    #[test]
    fn a_modules_imports_and_start_are_read() {
        let module = wat(r#"(module (import "a" "b" (func)) (import "a" "c" (memory 1)) (func (export "_start")))"#);
        let imports = vec![("a".into(), "b".into()), ("a".into(), "c".into())];
        assert_eq!(inspect(&module), Ok(Shape::Module { imports, has_start: true }));
        let memory = wat(r#"(module (memory (export "_start") 1))"#);
        assert_eq!(inspect(&memory), Ok(Shape::Module { imports: vec![], has_start: false }));
    }

    #[test]
    fn a_component_asks_for_functions_and_not_for_types() {
        let component = wat(r#"(component
                (import "a:b/funcs@1.2.3" (instance (export "f" (func))))
                (import "a:b/types@1.2.3" (instance (type $t (enum "x")) (export "t" (type (eq $t)))))
                (import "alone" (func))
                (core module (import "inner" "f" (func)))
                (type $u u8) (export "out" (type $u)))"#);
        let imports = vec!["a:b/funcs@1.2.3".into(), "alone".into()];
        assert_eq!(inspect(&component), Ok(Shape::Component { imports, exports: vec!["out".into()] }));
    }

    #[test]
    fn invalid_wasm_says_what_and_where() {
        let mut module = wat("(module (func))");
        module[4] = 9;
        let Err(Refusal::Invalid { message, offset: 4 }) = inspect(&module) else {
            panic!("{:?}", inspect(&module));
        };
        assert!(message.contains("version"), "{message}");
    }
}
