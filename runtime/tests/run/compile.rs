//! The compile worker, from outside.

use std::path::Path;
use std::time::Duration;

use samara_runtime::code::{CompileLimits, compile};
use samara_runtime::{CodeCache, CompileError};

use crate::wasm;

crate::trials![
    code_that_was_compiled_once_is_taken_from_the_cache,
    precompiled_code_is_refused_by_name,
    an_unknown_import_is_named,
    a_component_with_an_unknown_import_is_named,
    a_component_of_preview_3_is_refused_with_what_it_wants,
    an_import_of_another_type_is_refused,
    a_library_is_refused,
    a_truncated_module_is_refused,
    wasm_larger_than_allowed_is_refused,
    a_compiler_out_of_time_or_memory_says_so,
    what_is_made_to_hold_the_compiler_up_ends_within_its_limits,
    a_missing_compiler_is_an_error_of_its_own,
    the_worker_has_no_privileges,
];

#[track_caller]
fn refusal(wasm: &[u8]) -> String {
    match wasm::compiled(wasm) {
        Err(CompileError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn code_that_was_compiled_once_is_taken_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(dir.path()).unwrap();
    let module = wat(r#"(module (func (export "_start")) (memory (export "memory") 1))"#);
    let digest = format!("sha256:{}", "0".repeat(64));
    let ensure =
        |exe: &Path| wasm::runtime().block_on(samara_runtime::code::ensure(&cache, exe, wasm::file(&module), &digest));
    ensure(&wasm::exe()).unwrap();
    let code = ensure(Path::new("/does/not/exist")).expect("no compiler is needed any more");
    wasm::host().load(code).unwrap();
}

fn precompiled_code_is_refused_by_name() {
    use std::io::{Read as _, Seek as _};
    let code = wasm::compiled(&wasm::component("probe")).unwrap();
    let mut file = std::fs::File::from(code.into_fd());
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(refusal(&bytes), "is precompiled code, which is never loaded from an image");
}

fn an_unknown_import_is_named() {
    let module = wat(r#"(module (import "wasi_snapshot_preview1" "sock_opne" (func)) (func (export "_start")))"#);
    assert_eq!(
        refusal(&module),
        "imports sock_opne of wasi_snapshot_preview1, which this node does not have \
         (the nearest it has is sock_send of wasi_snapshot_preview1)"
    );
}

fn a_component_with_an_unknown_import_is_named() {
    let component = wat(r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (export "open" (func)))))"#);
    assert!(refusal(&component).starts_with("imports wasi:keyvalue/store@0.2.0, which this node does not have"));
}

fn a_component_of_preview_3_is_refused_with_what_it_wants() {
    let asking = wat(r#"(component (import "wasi:clocks/monotonic-clock@0.3.0" (instance (export "now" (func)))))"#);
    assert_eq!(
        refusal(&asking),
        "imports wasi:clocks/monotonic-clock@0.3.0, which this node does not have \
         (the nearest it has is wasi:clocks/monotonic-clock@0.2.12)"
    );
    let offering = wat(r#"(component
        (core module $m (func (export "run")) (func (export "cb") (param i32 i32 i32) (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (component $c (import "f" (func $f)) (export "run" (func $f)))
        (func $f (canon lift (core func $i "run")))
        (instance $r (instantiate $c (with "f" (func $f))))
        (export "wasi:cli/run@0.3.0" (instance $r)))"#);
    assert_eq!(
        refusal(&offering),
        "the component exports wasi:cli/run@0.3.0, and this node runs wasi:cli/run and wasi:http/incoming-handler of 0.2 \
         (preview 2)"
    );
}

fn an_import_of_another_type_is_refused() {
    let module = wat(r#"(module (import "wasi_snapshot_preview1" "fd_close" (func)) (func (export "_start")))"#);
    assert!(refusal(&module).contains("fd_close"), "{}", refusal(&module));
    let component = wat(r#"(component (import "wasi:cli/exit@0.2.0" (instance (export "exit" (func)))))"#);
    assert!(refusal(&component).contains("wasi:cli/exit"), "{}", refusal(&component));
}

fn a_library_is_refused() {
    assert_eq!(refusal(&wat("(module)")), "the module exports no function _start: it is a library, not a program");
    assert_eq!(
        refusal(&wat("(component)")),
        "the component exports neither wasi:cli/run nor wasi:http/incoming-handler"
    );
}

fn a_truncated_module_is_refused() {
    let whole = wasm::module("probe");
    let half = &whole[..whole.len() / 2];
    assert_eq!(refusal(half), format!("the WebAssembly is truncated: it ends at byte {}", half.len()));
    assert_eq!(refusal(b""), "the file is empty");
}

fn with_limits(wasm: &[u8], limits: CompileLimits) -> Result<Vec<u8>, CompileError> {
    wasm::runtime().block_on(compile(&wasm::exe(), wasm::file(wasm), limits))
}

fn wasm_larger_than_allowed_is_refused() {
    let limits = CompileLimits { wasm: 1000, ..CompileLimits::default() };
    let error = with_limits(&wasm::module("probe"), limits).unwrap_err();
    assert_eq!(error.to_string(), "it is larger than 1000 bytes, the most that is compiled");
    assert!(matches!(error, CompileError::Refused(_)), "{error:?}");
}

fn a_compiler_out_of_time_or_memory_says_so() {
    let limits = CompileLimits { cpu_seconds: 0, ..CompileLimits::default() };
    let error = with_limits(&wasm::module("probe"), limits).unwrap_err();
    assert!(matches!(error, CompileError::Limit(_)), "{error:?}");
    for mebibytes in [4, 24] {
        let limits = CompileLimits { memory: mebibytes << 20, ..CompileLimits::default() };
        let error = with_limits(&wasm::component("probe"), limits).unwrap_err();
        let expected = format!("{mebibytes} MiB of memory");
        assert!(matches!(&error, CompileError::Limit(text) if *text == expected), "{error:?}");
    }
}

/// A module whose functions all have this body; the first is `_start`.
fn of_functions(count: u32, locals: u32, body: &[u8]) -> Vec<u8> {
    fn number(mut value: u32, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    fn counted(bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        number(bytes.len() as u32, &mut all);
        [all, bytes.to_vec()].concat()
    }
    fn each(count: u32, one: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        number(count, &mut all);
        [all, one.repeat(count as usize)].concat()
    }
    let mut function = vec![1];
    number(locals, &mut function);
    function.push(0x7e);
    function.extend_from_slice(body);
    function.push(0x0b);
    let start = [&[1][..], &counted(b"_start"), &[0, 0]].concat();
    let sections: [(u8, Vec<u8>); 4] =
        [(1, vec![1, 0x60, 0, 0]), (3, each(count, &[0])), (7, start), (10, each(count, &counted(&function)))];
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (kind, section) in sections {
        module.push(kind);
        module.extend(counted(&section));
    }
    module
}

fn what_is_made_to_hold_the_compiler_up_ends_within_its_limits() {
    const BLOCK: &[u8] = &[0x02, 0x40];
    let nested = |depth: usize| [BLOCK.repeat(depth), vec![0x0b; depth]].concat();
    // Each value is one more than the one before, and all are alive to the end.
    let alive =
        |count: usize| [[0x20, 0, 0x42, 1, 0x7c, 0x22, 0].repeat(count), vec![0x7c; count - 1], vec![0x1a]].concat();
    // A jump with nearly as many ways as there may be, again and again.
    let jumps = || {
        let table = [&[0x41, 0, 0x0e, 0xe8, 0xfb, 0x03][..], &[0; 65_000], &[0]].concat();
        [BLOCK, &table, &[0x0b]].concat().repeat(20)
    };
    let limits = CompileLimits { cpu_seconds: 1, memory: 512 << 20, ..CompileLimits::default() };
    for (what, module) in [
        ("a hundred thousand functions", of_functions(100_000, 1, &[])),
        ("as many locals as there may be", of_functions(200, 49_999, &alive(100))),
        ("blocks in blocks", of_functions(1, 1, &nested(300_000))),
        ("values that are alive for long", of_functions(4, 1, &alive(100_000))),
        ("jumps with many ways", of_functions(4, 1, &jumps())),
    ] {
        let begun = std::time::Instant::now();
        match with_limits(&module, limits) {
            Ok(_) | Err(CompileError::Limit(_)) => {}
            Err(other) => panic!("{what}: {other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
    }
}

fn a_missing_compiler_is_an_error_of_its_own() {
    let missing = compile(Path::new("/does/not/exist"), wasm::file(b"x"), CompileLimits::default());
    assert!(matches!(wasm::runtime().block_on(missing), Err(CompileError::Spawn(_))));
}

/// A worker that waits for its input shows what it is.
fn the_worker_has_no_privileges() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nothing to give up");
        return;
    }
    let (reader, _writer) = std::io::pipe().unwrap();
    let input = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
    wasm::runtime().block_on(async {
        let exe = wasm::exe();
        let mut compiling = std::pin::pin!(compile(&exe, input, CompileLimits::default()));
        let found = async {
            loop {
                if let Some(status) = child_status() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let status = tokio::select! {
            status = found => status,
            result = &mut compiling => panic!("it has no input, and ended: {result:?}"),
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("no confined worker in 30 s"),
        };
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        assert!(status.contains("Gid:\t65534\t65534\t65534\t65534"), "{status}");
        assert!(status.lines().any(|line| line.trim_end() == "Groups:"), "{status}");
    });
}

/// `/proc/<pid>/status` of the one child that has become nobody and may gain nothing.
fn child_status() -> Option<String> {
    let us = std::process::id();
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let status = std::fs::read_to_string(entry.ok()?.path().join("status")).ok()?;
        let is = |line: &str| status.lines().any(|have| have == line);
        (is(&format!("PPid:\t{us}")) && is("Uid:\t65534\t65534\t65534\t65534") && is("NoNewPrivs:\t1"))
            .then_some(status)
    })
}
