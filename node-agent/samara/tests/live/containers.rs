//! Verbs that look at containers, and `exec`.

use crate::machine::{Machine, p1};

/// A container with programs in its file system, without a registry: they are mounted.
fn tools(machine: &Machine) {
    std::fs::create_dir(machine.path("bin")).unwrap();
    std::fs::create_dir(machine.path("data")).unwrap();
    for name in ["tee", "cat", "env", "ls", "false"] {
        std::fs::copy(p1("toolbox"), machine.path("bin").join(name)).unwrap();
    }
    let mount = ["-v", "./bin:/bin:ro", "-v", "./data:/data"];
    let args =
        [&["run", "-d", "--name", "tools", "-l", "app=tools"], &mount[..], &[&p1("toolbox"), "sleep", "infinity"]];
    machine.good(&args.concat());
}

#[test]
fn exec_runs_a_program_of_the_container_in_it() {
    let machine = Machine::new();
    tools(&machine);
    let tee = machine.fed(&["exec", "-i", "tools", "/bin/tee", "/data/file"], b"text");
    assert_eq!((tee.code, tee.out.as_str()), (0, "text"), "{tee:?}");
    assert_eq!(std::fs::read_to_string(machine.path("data/file")).unwrap(), "text");
    assert_eq!(machine.good(&["exec", "tools", "cat", "/data/file"]), "text");
    let env = machine.good(&["exec", "-e", "A=1", "-u", "5:6", "tools", "env"]);
    assert!(env.lines().any(|line| line == "A=1"), "{env}");
    assert_eq!(machine.samara(&["exec", "tools", "false"]).code, 1);
    let missing = machine.samara(&["exec", "tools", "/bin/nothing"]);
    assert_eq!(missing.code, 125);
    assert!(missing.err.contains("/bin/nothing"), "{missing:?}");
    machine.good(&["stop", "-t", "0", "tools"]);
    let stopped = machine.samara(&["exec", "tools", "ls"]);
    assert!(stopped.err.contains("samara start tools"), "{stopped:?}");
}

#[test]
fn ps_filters_and_prints_ids_or_json() {
    let machine = Machine::new();
    tools(&machine);
    machine.good(&["run", "--name", "done", &p1("hello")]);
    let count = |args: &[&str]| machine.good(&[&["ps", "-q"], args].concat()).lines().count();
    assert_eq!(count(&[]), 1);
    assert_eq!(count(&["-a"]), 2);
    assert_eq!(count(&["-a", "--filter", "label=app=tools"]), 1);
    assert_eq!(count(&["--filter", "status=exited"]), 1);
    assert_eq!(count(&["--filter", "name=nothing"]), 0);
    assert_eq!(machine.good(&["ps", "-q", "--no-trunc"]).trim().len(), 64);
    let table = machine.good(&["ps"]);
    assert!(table.starts_with("CONTAINER ID"), "{table}");
    assert!(!table.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn a_damaged_container_is_told_of_and_removed_and_others_are_none_the_worse() {
    let machine = Machine::new();
    machine.good(&["run", "--name", "damaged", &p1("hello")]);
    machine.good(&["run", "-d", "--name", "spin", "-v", "data:/data", &p1("spin-cpu")]);
    let dir = machine.json(&["inspect", "damaged"])[0]["directory"].as_str().unwrap().to_owned();
    for file in ["container.json", "state.json"] {
        std::fs::write(format!("{dir}/{file}"), "").unwrap();
    }
    for verb in [&["ps", "-a"][..], &["system", "df"]] {
        let said = machine.samara(verb);
        assert!(said.code == 0 && said.err.contains("container.json is damaged"), "{said:?}");
    }
    assert!(machine.good(&["ps"]).contains("spin"));
    let kept = machine.samara(&["system", "prune", "-f", "--volumes"]);
    assert!(kept.code == 125 && kept.err.contains("what it uses is not known"), "{kept:?}");
    for verb in [&["rm", "damaged"][..], &["inspect", "damaged"]] {
        let said = machine.samara(verb);
        assert!(said.code != 0 && said.err.contains("`samara rm -f "), "{said:?}");
    }
    machine.good(&["stop", "-t", "0", "spin"]);
    assert_eq!(machine.good(&["rm", "-f", "damaged", "nobody"]), "damaged\n");
    assert!(!std::path::Path::new(&dir).exists());
    machine.good(&["run", "--rm", "--name", "damaged", &p1("hello")]);
}

#[test]
fn logs_are_split_followed_and_cut() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "spin", &p1("spin-cpu")]);
    machine.until("it has written three lines", || machine.good(&["logs", "spin"]).lines().count() >= 3);
    assert_eq!(machine.good(&["logs", "--tail", "1", "spin"]).lines().count(), 1);
    assert_eq!(machine.good(&["logs", "--since", "2100-01-01T00:00:00Z", "spin"]), "");
    let timed = machine.good(&["logs", "-t", "--tail", "1", "spin"]);
    assert!(timed.split(' ').next().unwrap().parse::<jiff::Timestamp>().is_ok(), "{timed}");
    let mut follow = machine.command(&["logs", "-f", "spin"]);
    let follow = follow.stdout(std::process::Stdio::piped()).spawn().unwrap();
    machine.good(&["stop", "-t", "0", "spin"]);
    let followed = follow.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), machine.good(&["logs", "spin"]), "to the last line");
}

#[test]
fn an_attached_containers_output_is_kept_too() {
    let machine = Machine::new();
    let said = machine.samara(&["run", "--name", "once", &p1("crash-loop")]);
    assert_eq!(said.code, 1);
    let logs = machine.samara(&["logs", "once"]);
    assert_eq!((logs.out, logs.err), (said.out, said.err));
}

#[test]
fn top_stats_and_inspect_tell_of_a_running_container() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "spin", "-m", "64m", &p1("spin-cpu")]);
    let top = machine.json(&["top", "--format", "json", "spin"]);
    let inspect = &machine.json(&["inspect", "spin"])[0];
    assert_eq!((&top[0]["pid"], &top[0]["command"]), (&inspect["state"]["pid"], &"spin-cpu.wasm".into()));
    let stats = &machine.json(&["stats", "--no-stream", "--format", "json", "spin"])[0];
    assert_eq!(stats["memoryLimit"], 64 << 20);
    assert!(stats["cpuPercent"].as_f64().unwrap() > 1.0, "{stats}");
    assert_eq!(inspect["spec"]["process"]["args"][0], "spin-cpu.wasm");
    assert!(machine.samara(&["inspect", "nothing"]).err.contains("samara images"));
}
