//! Small guests in text form.

/// Wasm from text.
pub(crate) fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("wat")
}

/// Imports, one page of memory, and `$write` (stream, address, length).
fn module(body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00")
  (func $write (param $fd i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $sleep (param $nanos i64)
    (i64.store (i32.const 1048) (local.get $nanos))
    (drop (call $poll (i32.const 1024) (i32.const 1152) (i32.const 1) (i32.const 1216))))
{body})"#
    )
}

/// Writes `text` to a stream and exits with `code`.
pub(crate) fn say(stream: u32, text: &str, code: u32) -> Vec<u8> {
    let length = text.len();
    let text: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    wasm(&module(&format!(
        r#"(data (i32.const 2048) "{text}")
  (func (export "_start")
    (call $write (i32.const {stream}) (i32.const 2048) (i32.const {length}))
    (call $exit (i32.const {code})))"#
    )))
}

/// Says `ready` and sleeps for ever.
pub(crate) fn sleeper() -> Vec<u8> {
    wasm(&module(
        r#"(data (i32.const 2048) "ready\n")
  (func (export "_start")
    (call $write (i32.const 1) (i32.const 2048) (i32.const 6))
    (loop (call $sleep (i64.const 3600000000000)) (br 0)))"#,
    ))
}

/// Opens its root until it can open nothing more, says `full` and sleeps for ever. Needs a root.
pub(crate) fn opener() -> Vec<u8> {
    let open = r#"(import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory"#;
    let text = module(
        r#"(data (i32.const 2048) "full\n")
  (data (i32.const 2064) ".")
  (func (export "_start")
    (loop
      (br_if 0 (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 2064) (i32.const 1)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 2080)))))
    (call $write (i32.const 1) (i32.const 2048) (i32.const 5))
    (loop (call $sleep (i64.const 3600000000000)) (br 0)))"#,
    );
    wasm(&text.replacen("(memory", open, 1))
}

/// Says `ready` and computes for ever.
pub(crate) fn spinner() -> Vec<u8> {
    wasm(&module(
        r#"(data (i32.const 2048) "ready\n")
  (func (export "_start")
    (call $write (i32.const 1) (i32.const 2048) (i32.const 6))
    (loop (br 0)))"#,
    ))
}

/// Takes memory until there is no more, page by page, and writes to each; exits with 7 if it is refused politely.
pub(crate) fn hog() -> Vec<u8> {
    wasm(&module(
        r#"(func (export "_start")
    (local $page i32)
    (loop
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.eq (local.get $page) (i32.const -1)) (then (call $exit (i32.const 7))))
      (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (br 0)))"#,
    ))
}

/// Takes memory as [`hog`] does, when a byte comes over its input.
pub(crate) fn hog_when_told() -> Vec<u8> {
    wasm(&module(
        r#"(func (export "_start")
    (local $page i32)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.eq (local.get $page) (i32.const -1)) (then (call $exit (i32.const 7))))
      (br 0)))"#,
    ))
}

/// Copies its input to its output, and exits with 5 at the end.
pub(crate) fn cat() -> Vec<u8> {
    wasm(&module(
        r#"(func (export "_start")
    (loop
      (i32.store (i32.const 0) (i32.const 4096))
      (i32.store (i32.const 4) (i32.const 1024))
      (i32.store (i32.const 8) (i32.const 0))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.eqz (i32.load (i32.const 8))) (then (call $exit (i32.const 5))))
      (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 8)))
      (br 0)))"#,
    ))
}

/// Writes `count` lines of 8 digits, then sleeps for ever if `stay`.
pub(crate) fn counter(count: u32, stay: bool) -> Vec<u8> {
    let end = if stay { "(loop (call $sleep (i64.const 3600000000000)) (br 0))" } else { "" };
    wasm(&module(&format!(
        r#"(func (export "_start")
    (local $n i32) (local $digit i32) (local $rest i32)
    (i32.store8 (i32.const 2056) (i32.const 10))
    (loop $next
      (local.set $rest (local.get $n))
      (local.set $digit (i32.const 7))
      (loop $digits
        (i32.store8 (i32.add (i32.const 2048) (local.get $digit))
          (i32.add (i32.const 48) (i32.rem_u (local.get $rest) (i32.const 10))))
        (local.set $rest (i32.div_u (local.get $rest) (i32.const 10)))
        (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
        (br_if $digits (i32.ge_s (local.get $digit) (i32.const 0))))
      (call $write (i32.const 1) (i32.const 2048) (i32.const 9))
      (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 100))) (then (call $sleep (i64.const 1000000))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $n) (i32.const {count}))))
    {end})"#
    )))
}

/// Traps at once.
pub(crate) fn trap() -> Vec<u8> {
    wasm(&module(r#"(func (export "_start") unreachable)"#))
}

/// Serves HTTP: listens, and gives no answer to anybody.
pub(crate) fn server() -> Vec<u8> {
    wasm(
        r#"(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (core module $module (func (export "handle") (param i32 i32)))
  (core instance $instance (instantiate $module))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#,
    )
}
