//! Commands: arguments, streams, exit codes, traps.

use std::fs::File;
use std::io::{Write as _, pipe};
use std::time::{Duration, Instant};

use samara_runtime::{Exit, Kind, Output, StopAction, Stream};

use crate::guest::{Guest, text};
use crate::wasm;

crate::trials![
    a_guest_sees_its_arguments_and_environment,
    a_guests_configuration_is_its_environment,
    a_guests_exit_code_is_its_own_modulo_256,
    a_trap_is_134_with_a_backtrace_that_names_functions,
    standard_input_is_read_to_its_end,
    input_that_comes_later_is_seen_when_it_comes,
    input_closed_from_outside_ends_after_what_was_written,
    output_becomes_log_records_at_once,
    every_start_draws_other_random_numbers,
    a_command_that_is_asked_to_stop_is_to_be_ended_at_once,
    a_missing_root_is_no_start,
    the_kind_is_found_from_the_bytes,
];

fn a_guest_sees_its_arguments_and_environment() {
    for guest in Guest::probes(&["args"]) {
        assert_eq!(guest.run().succeeded(), "probe,args\n");
    }
    for guest in Guest::probes(&["env", "NAME"]) {
        assert_eq!(guest.env("NAME", "välue with = and spaces").run().succeeded(), "välue with = and spaces\n");
    }
}

fn a_guests_configuration_is_its_environment() {
    let guest = Guest::new(&wasm::component("configured")).args(&["NAME", "name", "other-key"]);
    let ended = guest.env("NAME", "first").env("NAME", "last").env("other-key", "").run();
    assert_eq!(ended.succeeded(), "last\n-\n\n2\n");
}

fn a_guests_exit_code_is_its_own_modulo_256() {
    // Preview 2 knows only success and failure.
    for (asked, code) in [("0", 0), ("1", 1), ("42", 42), ("255", 255), ("256", 0), ("-1", 255)] {
        let guest = Guest::new(&wasm::module("probe")).args(&["exit", asked]);
        assert_eq!(guest.run().exit, Exit { code, oom: false, message: None });
    }
    assert_eq!(Guest::component(&["exit", "0"]).run().exit.code, 0);
    assert_eq!(Guest::component(&["exit", "1"]).run().exit.code, 1);
}

fn a_trap_is_134_with_a_backtrace_that_names_functions() {
    for guest in Guest::probes(&["trap"]) {
        let ended = guest.run();
        assert_eq!((ended.exit.code, ended.exit.oom), (134, false));
        let message = "wasm trap: wasm `unreachable` instruction executed";
        assert_eq!(ended.exit.message.as_deref(), Some(message));
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
        assert!(ended.stderr.contains("probe::deep"), "{}", ended.stderr);
    }
}

fn standard_input_is_read_to_its_end() {
    for guest in Guest::probes(&["copy"]) {
        assert_eq!(guest.stdin(text("one\ntwo")).run().succeeded(), "one\ntwo");
    }
    for guest in Guest::probes(&["copy"]) {
        assert_eq!(guest.run().succeeded(), "", "no input at all");
    }
    let large = "x".repeat(1 << 20);
    for guest in Guest::probes(&["copy"]) {
        assert_eq!(guest.stdin(text(&large)).run().succeeded(), large);
    }
}

fn input_that_comes_later_is_seen_when_it_comes() {
    for guest in Guest::probes(&["lines"]) {
        let (reader, mut writer) = pipe().unwrap();
        let guest = guest.stdin(reader).start();
        for line in ["one", "two"] {
            writeln!(writer, "{line}").unwrap();
            guest.stdout.wait_for(&format!("got {line}\n"));
        }
        drop(writer);
        assert_eq!(guest.wait().succeeded(), "got one\ngot two\nend\n");
    }
}

fn input_closed_from_outside_ends_after_what_was_written() {
    for guest in Guest::probes(&["lines"]) {
        let (reader, mut writer) = pipe().unwrap();
        let guest = guest.stdin(reader).start();
        writeln!(writer, "one").unwrap();
        guest.handle.close_stdin();
        assert_eq!(guest.wait().succeeded(), "got one\nend\n", "though {writer:?} is still open");
    }
}

fn output_becomes_log_records_at_once() {
    for mut guest in Guest::probes(&["say", "one\ntwo"]) {
        let log = tempfile::NamedTempFile::new().unwrap();
        let file = File::options().append(true).open(log.path()).unwrap();
        guest.world.stdout = Output::cri(file, Stream::Stdout);
        guest.run().succeeded();
        let written = std::fs::read_to_string(log.path()).unwrap();
        let records: Vec<_> = written.lines().map(|line| line.split_once(' ').unwrap()).collect();
        let texts: Vec<_> = records.iter().map(|(_, text)| *text).collect();
        assert_eq!(texts, ["stdout F one", "stdout P two"]);
        for (time, _) in records {
            let time: jiff::Timestamp = time.parse().unwrap();
            assert!(jiff::Timestamp::now().duration_since(time) < jiff::SignedDuration::from_mins(5));
        }
    }
}

fn every_start_draws_other_random_numbers() {
    for guest in [0, 1] {
        let drawn: Vec<_> =
            (0..20).map(|_| Guest::new(&crate::guest::PROBES[guest]()).args(&["random"]).run().succeeded()).collect();
        let different: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!(different.len(), drawn.len());
    }
}

fn a_command_that_is_asked_to_stop_is_to_be_ended_at_once() {
    let (reader, writer) = pipe().unwrap();
    let guest = Guest::component(&["lines"]).stdin(reader).start();
    let asked = Instant::now();
    assert_eq!(guest.handle.stop(Duration::from_secs(30)), StopAction::EndNow);
    assert!(asked.elapsed() < Duration::from_secs(1));
    drop(writer);
    guest.wait().succeeded();
}

fn a_missing_root_is_no_start() {
    for guest in Guest::probes(&["args"]) {
        let ended = guest.root("/does/not/exist".as_ref()).run();
        assert_eq!(ended.exit.code, 128);
        assert!(ended.exit.message.unwrap().contains("root directory"));
    }
}

fn the_kind_is_found_from_the_bytes() {
    for (bytes, kind) in [
        (wasm::module("probe"), Kind::Module),
        (wasm::component("probe"), Kind::Command),
        (wasm::component("server"), Kind::Http),
    ] {
        assert_eq!(wasm::host().load(wasm::compiled(&bytes).unwrap()).unwrap().kind(), kind);
    }
}
