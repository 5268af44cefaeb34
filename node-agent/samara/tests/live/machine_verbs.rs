//! Verbs about the machine itself.

use crate::machine::{Machine, p1};

#[test]
fn the_doctor_judges_this_machine_and_asks_registries_only_when_told_to() {
    let machine = Machine::new();
    let all = machine.json(&["doctor", "--format", "json"]);
    let lines = all.as_array().unwrap();
    let verdict = |what: &str| lines.iter().find(|line| line["what"] == what).map(|line| line["verdict"].clone());
    for what in ["user", "cgroups", "namespaces", "seccomp", "overlay"] {
        assert!(verdict(what).is_some_and(|verdict| verdict != "fail"), "{what}: {all}");
    }
    assert!(lines.iter().all(|line| !line["what"].as_str().unwrap().starts_with("registry")));
    // Nobody listens there.
    let asked = machine.good(&["doctor", "--registry", "127.0.0.1:1"]);
    assert!(asked.lines().any(|line| line.starts_with("warn") && line.contains("registry 127.0.0.1:1")), "{asked}");
}

#[test]
fn prune_removes_what_nobody_uses_and_nothing_else() {
    let machine = Machine::new();
    machine.good(&["build", "-t", "example.test/spin:1", &p1("spin-cpu")]);
    machine.good(&["build", "-t", "example.test/hello:1", &p1("hello")]);
    machine.good(&["run", "-d", "--name", "spin", "-v", "used:/data", "example.test/spin:1"]);
    machine.good(&["run", "--name", "done", "-v", "unused:/data", "example.test/hello:1"]);
    let df = machine.json(&["system", "df", "--format", "json"]);
    assert_eq!((&df[0]["count"], &df[1]["count"], &df[2]["count"]), (&2.into(), &2.into(), &2.into()), "{df}");
    let refused = machine.samara(&["system", "prune"]);
    assert_eq!(refused.code, 125);
    assert!(refused.err.contains("-f"), "{refused:?}");
    machine.good(&["system", "prune", "-f"]);
    assert_eq!((machine.status("done"), machine.status("spin")), ("gone".to_owned(), "running".to_owned()));
    assert_eq!(machine.files("root/volumes").len(), 2);
    machine.good(&["system", "prune", "-f", "--all", "--volumes"]);
    assert_eq!(machine.files("root/volumes"), ["used"]);
    let images = machine.good(&["images"]);
    assert!(images.contains("example.test/spin:1") && !images.contains("example.test/hello:1"), "{images}");
}

#[test]
fn manual_pages_and_completions_are_made_for_every_verb() {
    let machine = Machine::new();
    machine.good(&["man", "man1"]);
    let pages = machine.files("man1");
    for page in ["samara.1", "samara-run.1", "samara-system-prune.1", "samara-exec.1"] {
        assert!(pages.iter().any(|found| found == page), "{page}: {pages:?}");
    }
    let run = std::fs::read_to_string(machine.path("man1/samara-run.1")).unwrap();
    assert!(run.contains("restart") && run.contains("137"), "{run}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(machine.good(&["completion", shell]).contains("prune"), "{shell}");
    }
}
