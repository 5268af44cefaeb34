//! `ctr run`, from beginning to end.

use std::fs;
use std::process::Stdio;

use samara_shim_client::output::{LogProgram, OutputUri, ReadyBy};

use crate::daemon::{Daemon, until};

#[test]
fn a_guest_has_its_arguments_its_files_its_output_and_its_exit_code() {
    let daemon = Daemon::start();
    let said = |id: &str, program: &[&str]| {
        let ran = daemon.run(&["--rm"], id, program);
        (ran.code, ran.stdout)
    };
    assert_eq!(said("c1", &["/bin/echo", "hello", "world"]), (Some(0), "hello world\n".into()));
    assert_eq!(said("c2", &["cat", "/greeting"]), (Some(0), "from the image\n".into()), "by PATH");
    assert_eq!(said("c3", &["/bin/exit-code", "7"]), (Some(7), "exit-code: 7\n".into()));
    assert_eq!(said("c4", &["/bin/exit-code", "trap"]).0, Some(134));
    assert_eq!(said("c5", &["/bin/cat", "/nowhere"]).0, Some(1));
    daemon.nothing_is_left();
}

#[test]
fn what_is_typed_reaches_a_guest_to_its_end() {
    let daemon = Daemon::start();
    let input = daemon.home().join("input");
    let text = "0123456789abcde\n".repeat(20_000);
    fs::write(&input, &text).expect("input");
    let args = daemon.run_args(&["--rm"], "c1", &["/bin/cat"]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let ran = daemon.ctr_with_input(&args, Stdio::from(fs::File::open(&input).expect("input")));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout == text, "{} of {} bytes came back", ran.stdout.len(), text.len());
}

#[test]
fn what_cannot_run_is_refused_in_words_and_leaves_nothing() {
    let daemon = Daemon::start();
    let passwd = ["--rm", "--annotation", "samara.dev/module=/etc/passwd"];
    for (flags, program, words) in [
        (&["--rm"][..], "/bin/sh", r#"exec: "/bin/sh": no such file or directory"#),
        (&["--rm"], "/greeting", "exec format error: /greeting is not WebAssembly"),
        (&passwd, "/bin/ls", "samara.dev/module is for the node agent's containers only"),
    ] {
        let ran = daemon.run(flags, "c1", &[program]);
        assert_ne!(ran.code, Some(0), "{program}");
        assert!(ran.stderr.contains(words), "{program}: {}", ran.stderr);
        daemon.nothing_is_left();
    }
}

#[test]
fn a_guest_past_its_memory_is_ended_and_told_as_out_of_memory() {
    let daemon = Daemon::start();
    let events = daemon.home().join("events");
    let mut listener = daemon.command(&["events"]);
    listener.stdin(Stdio::null()).stdout(fs::File::create(&events).expect("file")).stderr(Stdio::null());
    let mut listener = listener.spawn().expect("ctr");
    let seen = || fs::read_to_string(&events).expect("events");
    // Whether it listens shows only by what it hears.
    let mut number = 0;
    until("it listens", || {
        number += 1;
        let label = format!("n={number}");
        daemon.ctr(&["image", "label", crate::image::IMAGE, &label]).succeeded();
        !seen().is_empty()
    });
    let ran = daemon.run(&["--rm", "--memory-limit", "33554432"], "c1", &["/bin/hog", "1000"]);
    assert_eq!(ran.code, Some(137), "{ran:?}");
    until("told", || seen().contains("/tasks/oom"));
    listener.kill().expect("killed");
    listener.wait().expect("reaped");
}

#[test]
fn a_logging_program_of_containerds_gets_all_of_the_output() {
    let daemon = Daemon::start();
    let log = daemon.home().join("said");
    let names = r#"exec 5>&-; { echo "$CONTAINER_NAMESPACE $CONTAINER_ID"; cat <&3; } > "$1.new"; mv "$1.new" "$1""#;
    let args = [("-c".into(), names.into()), ("to".into(), log.display().to_string())];
    let program = LogProgram { path: "/bin/sh".into(), args: args.into(), ready: ReadyBy::Closing };
    let uri = OutputUri::Binary(program).to_string();
    daemon.run(&["--rm", "--log-uri", &uri], "c1", &["/bin/echo", "to the program"]);
    until("written", || log.exists());
    let said = fs::read_to_string(&log).expect("log");
    assert_eq!(said, format!("{} c1\nto the program\n", daemon.namespace));
}

#[test]
fn a_privileged_container_with_all_of_the_hosts_devices_has_none() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["--rm", "--privileged"], "c1", &["/bin/ls", "/dev"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "shm\n"), "{}", ran.stderr);
}
