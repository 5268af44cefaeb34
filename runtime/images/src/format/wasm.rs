//! What a file is, from its first bytes; never from its name or its media type.

use serde::{Deserialize, Serialize};

use super::Refusal;

/// The two forms of WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WasmKind {
    /// A core module (WASI p1).
    Module,
    /// A component (WASI p2 and later).
    Component,
}

/// `e_ident[EI_OSABI]` of the files which wasmtime compiles modules to.
const ELF_OSABI_WASMTIME: u8 = 200;

impl WasmKind {
    /// How many bytes [`WasmKind::of`] needs to see, if the file has so many.
    pub const HEADER: usize = 8;

    /// Tells from the first bytes of a file, at least [`WasmKind::HEADER`] unless it is shorter.
    pub fn of(start: &[u8]) -> Result<Self, Refusal> {
        match start {
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(Self::Module),
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Self::Component),
            [0, b'a', b's', b'm', version @ ..] if version.len() < 4 => {
                Err(Refusal::NotWasm("a truncated WebAssembly header".to_owned()))
            }
            [0, b'a', b's', b'm', version @ ..] => {
                let version: Vec<String> = version.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                Err(Refusal::NotWasm(format!("WebAssembly of the unknown version {}", version.join(" "))))
            }
            [0x7f, b'E', b'L', b'F', _, _, _, ELF_OSABI_WASMTIME, ..] => Err(Refusal::Precompiled("wasmtime")),
            [0, b'a', b'o', b't', ..] => Err(Refusal::Precompiled("wamr")),
            [0, b'w', b'a', b's', b'm', b'e', b'r', ..] => Err(Refusal::Precompiled("wasmer")),
            other => Err(Refusal::NotWasm(describe(other))),
        }
    }
}

fn describe(start: &[u8]) -> String {
    let known = match start {
        [] => "empty",
        [0x7f, b'E', b'L', b'F', ..] => "a native executable (ELF)",
        [b'M', b'Z', ..] => "a Windows executable",
        [b'#', b'!', ..] => "a script",
        [0x1f, 0x8b, ..] => "gzip data",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd data",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [b'(', ..] => "WebAssembly text, which must be assembled first",
        [b'{', ..] => "JSON",
        [b'<', ..] => "HTML or XML",
        _ => {
            let bytes: Vec<String> = start.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            return format!("unknown (it starts with {})", bytes.join(" "));
        }
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_from_bytes() {
        assert_eq!(WasmKind::of(b"\0asm\x01\0\0\0rest"), Ok(WasmKind::Module));
        assert_eq!(WasmKind::of(b"\0asm\x0d\0\x01\0"), Ok(WasmKind::Component));
    }

    #[test]
    fn everything_else_is_refused_by_what_it_is() {
        let mut cwasm = *b"\x7fELF\x02\x01\x01\0";
        cwasm[7] = ELF_OSABI_WASMTIME;
        assert_eq!(WasmKind::of(&cwasm), Err(Refusal::Precompiled("wasmtime")));
        let cases: [(&[u8], &str); 7] = [
            (b"", "empty"),
            (b"\0asm", "a truncated WebAssembly header"),
            (b"\0asm\x02\0\0\0", "WebAssembly of the unknown version 02 00 00 00"),
            (b"\x7fELF\x02\x01\x01\0", "a native executable (ELF)"),
            (b"#!/bin/sh", "a script"),
            (b"(module)", "WebAssembly text, which must be assembled first"),
            (b"\x01\x02", "unknown (it starts with 01 02)"),
        ];
        for (bytes, what) in cases {
            assert_eq!(WasmKind::of(bytes), Err(Refusal::NotWasm(what.to_owned())));
        }
    }
}
