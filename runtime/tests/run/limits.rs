//! Memory and endless computation.

use samara_runtime::World;

use crate::guest::Guest;
use crate::http::Server;
use crate::wasm;

crate::trials![
    memory_over_the_limit_ends_the_guest_as_oom,
    memory_within_the_limit_is_given,
    a_module_that_asks_for_more_than_the_limit_does_not_start,
    four_gigabytes_are_refused_without_a_limit_only_where_there_is_no_room,
    instances_of_an_http_guest_share_the_limit_and_give_it_back,
    an_endless_start_function_does_not_end_by_itself,
    deep_recursion_is_a_trap,
];

const MIB: u64 = 1 << 20;

fn memory_over_the_limit_ends_the_guest_as_oom() {
    for guest in Guest::probes(&["grow", "100000000"]) {
        let ended = guest.memory_limit(64 * MIB).run();
        assert_eq!((ended.exit.code, ended.exit.oom), (137, true), "{ended:?}");
        let message = ended.exit.message.unwrap();
        assert!(message.starts_with("memory limit of 67108864 bytes reached"), "{message}");
        assert!(ended.stderr.contains("memory limit of 67108864 bytes reached"), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

fn memory_within_the_limit_is_given() {
    for guest in Guest::probes(&["grow", "50000000"]) {
        assert_eq!(guest.memory_limit(64 * MIB).run().succeeded(), "50000000\n");
    }
    for guest in Guest::probes(&["grow", "100000000"]) {
        assert_eq!(guest.run().succeeded(), "100000000\n", "no limit at all");
    }
}

fn module(text: &str) -> Guest {
    Guest::new(&wat::parse_str(text).unwrap())
}

fn a_module_that_asks_for_more_than_the_limit_does_not_start() {
    let guest = module(r#"(module (memory (export "memory") 2000) (func (export "_start")))"#);
    let ended = guest.memory_limit(64 * MIB).run();
    assert_eq!((ended.exit.code, ended.exit.oom), (137, true), "{ended:?}");
}

fn four_gigabytes_are_refused_without_a_limit_only_where_there_is_no_room() {
    let text = r#"(module (memory (export "memory") 65536) (func (export "_start")))"#;
    assert_eq!(module(text).run().exit.code, 0, "address space is not memory");
    let ended = module(text).memory_limit(64 * MIB).run();
    assert!(ended.exit.oom, "{ended:?}");
    // Growing past what 32 bits can address fails for the guest, not for its host.
    let grows = r#"(module (memory (export "memory") 65536)
        (func (export "_start") (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"#;
    assert_eq!(module(grows).run().exit.code, 0);
}

fn instances_of_an_http_guest_share_the_limit_and_give_it_back() {
    let server = Server::start(|world: &mut World| world.memory_limit = Some(64 * MIB), |_| {});
    for _ in 0..10 {
        assert_eq!(server.get("/grow?40000000"), (200, "40000000".into()), "the last one gave its memory back");
    }
    server.connect().dies_of("/grow?100000000");
    let ended = server.guest.wait();
    assert_eq!((ended.exit.code, ended.exit.oom), (137, true), "{ended:?}");
}

fn an_endless_start_function_does_not_end_by_itself() {
    // Nothing inside the process stops it: that is the kernel's part (quota, SIGKILL). Its thread is left behind.
    let text = r#"(module (memory (export "memory") 1) (func $f (loop br 0)) (start $f) (func (export "_start")))"#;
    let bytes = wat::parse_str(text).unwrap();
    assert!(wasm::compiled(&bytes).is_ok(), "it is the user's right to write it");
}

fn deep_recursion_is_a_trap() {
    let text = r#"(module (memory (export "memory") 1) (func $f (export "_start") (call $f) (call $f)))"#;
    let ended = module(text).run();
    assert_eq!(ended.exit.code, 134);
    assert_eq!(ended.exit.message.as_deref(), Some("wasm trap: call stack exhausted"));
    assert!(ended.stderr.len() < 16 * 1024, "the backtrace is cut: {} bytes", ended.stderr.len());
}
