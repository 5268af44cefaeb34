//! Verbs that reach into a container or change how it is known: cp, attach, port, rename.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::machine::{Machine, p1, p2};

#[test]
fn files_go_into_a_running_container_and_out_of_it() {
    let machine = Machine::new();
    let root = machine.path("site");
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/file"), "text").unwrap();
    symlink("/etc/passwd", root.join("a/link")).unwrap();
    machine.good(&["run", "-d", "--name", "spin", "-v", "data:/data", &p1("spin-cpu")]);
    machine.good(&["cp", "site", "spin:/"]);
    machine.good(&["cp", "site/.", "spin:/data"]);
    assert_eq!(
        std::fs::read_to_string(machine.path("root/volumes/data/a/b/file")).unwrap(),
        "text",
        "through the mount"
    );
    machine.good(&["cp", "spin:/site/a", "back"]);
    assert_eq!(std::fs::read_to_string(machine.path("back/b/file")).unwrap(), "text");
    assert_eq!(std::fs::read_link(machine.path("back/link")).unwrap().to_str(), Some("/etc/passwd"));
    machine.good(&["cp", "spin:/site/a/b/file", "named"]);
    assert!(machine.path("named").is_file());
    // By archive, both ways.
    let mut out = machine.command(&["cp", "spin:/site", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut archive = Vec::new();
    out.stdout.take().unwrap().read_to_end(&mut archive).unwrap();
    assert!(out.wait().unwrap().success());
    assert_eq!(machine.fed(&["cp", "-", "spin:/data"], &archive).code, 0);
    assert!(machine.path("root/volumes/data/site/a/b/file").is_file());
}

#[test]
fn a_stopped_container_is_copied_from_and_to_and_sees_it_when_it_starts() {
    let machine = Machine::new();
    std::fs::write(machine.path("new.txt"), "new").unwrap();
    std::fs::write(machine.path("asset.txt"), "asset").unwrap();
    machine.good(&["build", "-t", "localhost/box:1", "--add", "asset.txt:/srv/asset.txt", &p1("toolbox")]);
    let run = ["run", "--name", "box", "-v", "data:/data", "localhost/box:1", "cat", "/srv/new.txt", "/data/new.txt"];
    assert_ne!(machine.samara(&run).code, 0, "they are not there yet");
    machine.good(&["cp", "new.txt", "box:/srv/"]);
    machine.good(&["cp", "new.txt", "box:/data/new.txt"]);
    assert!(machine.path("root/volumes/data/new.txt").is_file(), "a volume of a stopped container is seen");
    machine.good(&["cp", "box:/srv", "srv"]);
    assert_eq!(std::fs::read_to_string(machine.path("srv/asset.txt")).unwrap(), "asset", "of the image");
    assert_eq!(std::fs::read_to_string(machine.path("srv/new.txt")).unwrap(), "new");
    machine.good(&["start", "box"]);
    assert_eq!(machine.good(&["wait", "box"]), "0\n");
    assert!(machine.good(&["logs", "box"]).contains("newnew"));
}

#[test]
fn no_link_of_a_container_leads_a_copy_out_of_it() {
    let machine = Machine::new();
    std::fs::write(machine.path("secret"), "host").unwrap();
    std::fs::write(machine.path("mine"), "mine").unwrap();
    machine.good(&["run", "-d", "--name", "spin", "-v", "data:/data", &p1("spin-cpu")]);
    let volume = machine.path("root/volumes/data");
    symlink(machine.path("secret"), volume.join("out")).unwrap();
    symlink(machine.path(""), volume.join("dir")).unwrap();
    symlink("../../../../../../../..", volume.join("up")).unwrap();
    machine.good(&["cp", "mine", "spin:/data/out"]);
    assert_eq!(std::fs::read_to_string(machine.path("secret")).unwrap(), "host", "the link was replaced");
    for path in ["spin:/data/dir/secret", "spin:/data/up/etc/passwd"] {
        assert_eq!(machine.samara(&["cp", path, "stolen"]).code, 125, "{path}");
        assert!(!machine.path("stolen").exists());
    }
    assert_eq!(machine.samara(&["cp", "mine", "spin:/data/dir/"]).code, 125);
}

#[test]
fn what_cannot_be_copied_is_said() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "spin", &p1("spin-cpu")]);
    for (args, says) in [
        (["cp", "a", "b"], "write CONTAINER:PATH"),
        (["cp", "spin:/a", "spin:/b"], "by way of a directory"),
        (["cp", "spin:/none", "x"], "spin:/none: No such file"),
        (["cp", "none", "spin:/"], "none: No such file"),
        (["cp", "nobody:/a", "x"], "samara ps -a"),
        (["cp", "/proc/version", "spin:/none/x"], "is not there"),
    ] {
        let said = machine.samara(&args);
        assert!(said.code == 125 && said.err.contains(says), "{args:?}: {said:?}");
    }
}

#[test]
fn a_renamed_container_is_found_by_its_new_name_alone() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "old", &p1("spin-cpu")]);
    machine.good(&["rename", "old", "new"]);
    assert_eq!((machine.status("old"), machine.status("new")), ("gone".into(), "running".into()));
    machine.good(&["run", "-d", "--name", "old", &p1("spin-cpu")]);
    let taken = machine.samara(&["rename", "old", "new"]);
    assert!(taken.code == 125 && taken.err.contains("is taken"), "{taken:?}");
    machine.good(&["stop", "new"]);
    machine.good(&["rm", "new"]);
    assert_eq!(machine.status("old"), "running");
}

#[test]
fn published_ports_are_told_and_datagrams_are_passed_on() {
    let machine = Machine::new();
    let publish = ["-p", "127.0.0.1::7000", "-p", "127.0.0.1::7000/udp"];
    machine.good(&[&["run", "-d", "--name", "echo"], &publish[..], &[&p2("tcp-echo")]].concat());
    let all = machine.good(&["port", "echo"]);
    assert_eq!(all.lines().count(), 2, "{all}");
    assert!(all.starts_with("7000/tcp -> 127.0.0.1:") && all.contains("7000/udp -> 127.0.0.1:"), "{all}");
    let tcp = machine.good(&["port", "echo", "7000"]);
    machine.until("it echoes", || {
        let Ok(mut stream) = std::net::TcpStream::connect(tcp.trim()) else { return false };
        let mut heard = [0; 4];
        stream.write_all(b"ping").is_ok() && stream.read_exact(&mut heard).is_ok() && &heard == b"ping"
    });
    let json = machine.json(&["port", "--format", "json", "echo"]);
    assert_eq!((json.as_array().unwrap().len(), &json[1]["protocol"]), (2, &"udp".into()));
    let none = machine.samara(&["port", "echo", "81"]);
    assert!(none.code == 125 && none.err.contains("samara run -p 81"), "{none:?}");
    // The way of a datagram: whoever listens at the guest's address hears it.
    let address = machine.json(&["inspect", "echo"])[0]["address"].as_str().unwrap().to_owned();
    let guest = UdpSocket::bind((address.as_str(), 7000)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"ping", machine.good(&["port", "echo", "7000/udp"]).trim()).unwrap();
    let mut heard = [0; 16];
    let (length, from) = guest.recv_from(&mut heard).unwrap();
    assert_eq!((&heard[..length], from.ip().to_string()), (&b"ping"[..], address));
    machine.good(&["stop", "echo"]);
    let stopped = machine.samara(&["port", "echo"]);
    assert!(stopped.code == 125 && stopped.err.contains("samara start echo"), "{stopped:?}");
}

#[test]
fn one_who_attaches_is_heard_hears_and_gets_the_exit_code() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "-i", "--name", "cat", &p1("toolbox"), "cat"]);
    let mut command = machine.command(&["attach", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
    // Leaving is not ending.
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "the signal was passed on");
    assert_eq!(machine.status("cat"), "exited");
    let ended = machine.samara(&["attach", "cat"]);
    assert!(ended.code == 125 && ended.err.contains("samara start cat"), "{ended:?}");
}

#[test]
fn one_who_only_looks_leaves_it_running() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "spin", &p1("spin-cpu")]);
    let mut child = machine.command(&["attach", "--sig-proxy=false", "spin"]).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    machine.until("it listens for signals", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
    });
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(machine.status("spin"), "running");
}

#[test]
fn memory_has_a_size_and_a_missing_directory_is_made_when_asked_for() {
    let machine = Machine::new();
    let run = |mount: &[&str]| machine.samara(&[&["run", "--rm"], mount, &[&p1("read-write")]].concat());
    assert_eq!(run(&["--tmpfs", "/data:size=64k,mode=700"]).code, 0);
    assert_eq!(run(&["--mount", "type=bind,source=./made/here,target=/data,bind-create-src"]).code, 0);
    assert!(machine.path("made/here/count").is_file());
    let refused = run(&["--mount", "type=bind,source=.,target=/data,bind-propagation=shared"]);
    assert!(refused.code == 125 && refused.err.contains("cannot be had here"), "{refused:?}");
}
