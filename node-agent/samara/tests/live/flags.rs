//! Flags of `run`, each by what it does to the guest.

use std::path::Path;

use crate::machine::{Machine, p1};

/// An image with the toolbox as its program, `env-dump` beside it, and users.
fn image(machine: &Machine) {
    std::fs::write(machine.path("passwd"), "root:x:0:0::/:\napp:x:1234:2345::/:\n").unwrap();
    std::fs::write(machine.path("group"), "staff:x:50:app\n").unwrap();
    let dump = format!("{}:/bin/dump", p1("env-dump"));
    let add = ["--add", &dump, "--add", "passwd:/etc/passwd", "--add", "group:/etc/group"];
    machine.good(
        &[&["build", "-t", "localhost/box:1", "--cmd", "echo", "--cmd", "cmd"], &add[..], &[&p1("toolbox")]].concat(),
    );
}

/// Of a running container.
fn pid(machine: &Machine, name: &str) -> u64 {
    machine.json(&["inspect", name])[0]["state"]["pid"].as_u64().unwrap()
}

#[test]
fn a_read_only_root_cannot_be_changed_and_what_is_mounted_can() {
    let machine = Machine::new();
    image(&machine);
    assert_eq!(machine.samara(&["run", "--rm", "localhost/box:1", "mkdir", "/made"]).code, 0);
    let refused = machine.samara(&["run", "--rm", "--read-only", "localhost/box:1", "mkdir", "/made"]);
    assert!(refused.code == 1 && refused.err.contains("Read-only file system"), "{refused:?}");
    let mounted = ["run", "--rm", "--read-only", "--tmpfs", "/tmp", "localhost/box:1", "mkdir", "/tmp/made"];
    assert_eq!(machine.samara(&mounted).code, 0);
}

#[test]
fn an_entrypoint_replaces_the_images_and_drops_its_arguments() {
    let machine = Machine::new();
    image(&machine);
    assert_eq!(machine.good(&["run", "--rm", "localhost/box:1"]), "cmd\n");
    let run = |args: &[&str]| {
        machine.good(&[&["run", "--rm", "--entrypoint", "/bin/dump", "localhost/box:1"], args].concat())
    };
    assert!(run(&["-x"]).starts_with("argument 0: /bin/dump\nargument 1: -x\ndirectory: /\n"));
    assert!(run(&[]).starts_with("argument 0: /bin/dump\ndirectory: /\n"));
    let none = machine.samara(&["run", "--rm", "--entrypoint", "/bin/none", "localhost/box:1"]);
    assert!(none.code == 125 && none.err.contains("/bin/none"), "{none:?}");
}

#[test]
fn a_terminal_ends_lines_as_terminals_do_and_is_told_of() {
    let machine = Machine::new();
    assert_eq!(machine.good(&["run", "--rm", "-t", &p1("hello")]), "hello from samara\r\n");
    assert!(machine.good(&["run", "--rm", "-t", &p1("env-dump")]).contains("\r\nTERM=xterm\r\n"));
    let fed = machine.fed(&["run", "--rm", "-it", &p1("hello")], b"");
    assert!(fed.code == 125 && fed.err.contains("leave -t out"), "{fed:?}");
}

#[test]
fn a_part_of_a_cpu_holds_a_guest_back() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "spin", "--cpus", "0.02", &p1("spin-cpu")]);
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid(&machine, "spin"))).unwrap();
    let of = |controller: &str| {
        let fits =
            |line: &&str| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|one| one == controller));
        groups.lines().find(fits).and_then(|line| line.splitn(3, ':').nth(2)).map(|path| path.trim_start_matches('/'))
    };
    let read = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
    let throttled = |dir: &Path| {
        let stat = read(dir, "cpu.stat");
        let periods = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
        periods.parse::<u64>().unwrap() > 0
    };
    let dir = match of("cpu") {
        Some(path) => {
            let dir = Path::new("/sys/fs/cgroup/cpu").join(path);
            assert_eq!((&*read(&dir, "cpu.cfs_quota_us"), &*read(&dir, "cpu.cfs_period_us")), ("2000\n", "100000\n"));
            dir
        }
        None => {
            let dir = Path::new("/sys/fs/cgroup").join(of("").unwrap());
            assert_eq!(read(&dir, "cpu.max"), "2000 100000\n");
            dir
        }
    };
    machine.until("it is held back", || throttled(&dir));
}

#[test]
fn a_user_is_a_number_or_a_name_of_the_image() {
    let machine = Machine::new();
    image(&machine);
    for (user, ids) in
        [("1000", (1000, 0)), ("1000:2000", (1000, 2000)), ("app", (1234, 2345)), ("app:staff", (1234, 50))]
    {
        machine.good(&["run", "-d", "--name", "box", "--user", user, "localhost/box:1", "sleep", "infinity"]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&machine, "box"))).unwrap();
        let all = |id: u32| format!("\t{id}\t{id}\t{id}\t{id}\n");
        assert!(status.contains(&format!("Uid:{}", all(ids.0))), "{user}: {status}");
        assert!(status.contains(&format!("Gid:{}", all(ids.1))), "{user}: {status}");
        machine.good(&["rm", "-f", "box"]);
    }
    let unknown = machine.samara(&["run", "--rm", "--user", "nobody", "localhost/box:1"]);
    assert!(unknown.code == 125 && unknown.err.contains("nobody"), "{unknown:?}");
}

#[test]
fn relative_paths_begin_in_the_working_directory() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("data")).unwrap();
    std::fs::write(machine.path("data/file"), "text").unwrap();
    let args = ["run", "--rm", "-v", "./data:/data", "--workdir", "/data", &p1("toolbox")];
    assert_eq!(machine.good(&[&args[..], &["cat", "file"]].concat()), "text");
    assert_eq!(machine.good(&[&args[..], &["mkdir", "made"]].concat()), "");
    assert!(machine.path("data/made").is_dir());
    assert!(machine.good(&["run", "--rm", "-w", "/data", &p1("env-dump")]).contains("\nPWD=/data\n"));
}

#[test]
fn what_is_to_be_restarted_is_detached_and_unless_stopped_is_restarted() {
    let machine = Machine::new();
    let attached = machine.samara(&["run", "--restart", "always", &p1("hello")]);
    assert!(attached.code == 125 && attached.err.contains("-d"), "{attached:?}");
    let odd = machine.samara(&["run", "-d", "--restart", "sometimes", &p1("hello")]);
    assert!(odd.code == 2 && odd.err.contains("sometimes"), "{odd:?}");
    let forever = ["run", "-d", "--name", "hello", "--restart", "unless-stopped", &p1("hello")];
    machine.good(&forever);
    machine.until("it was started again after a good end", || {
        machine.json(&["inspect", "hello"])[0]["state"]["restarts"].as_u64().unwrap() > 0
    });
    machine.good(&["run", "-d", "--name", "once", "--restart", "on-failure", &p1("hello")]);
    assert_eq!(machine.good(&["wait", "once"]), "0\n");
    assert_eq!(machine.json(&["inspect", "once"])[0]["state"]["restarts"], 0);
}
