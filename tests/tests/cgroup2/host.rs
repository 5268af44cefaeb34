//! The host's side: what goes into the machine, and what comes out of it.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use samara_tests::cluster::workspace;

use crate::init::{MODULES, PARSER, PLAN, PROFILE, Plan, Run};
use crate::initramfs::Initramfs;
use crate::outcome::{Outcome, outcomes};

/// The machine is slow: everything in it is emulated.
const LIMIT: Duration = Duration::from_secs(600);

/// Which tests of which program, run by run (libtest-mimic takes one filter): those of what differs between v1 and v2, of
/// what an older kernel has less of (Landlock), and of what the host may not have (AppArmor). Left out is what makes a
/// crowd.
const TESTS: [(&str, &[&[&str]]); 3] = [
    ("shim-", &[&["limits::", "life::", "pause", "--skip", "a_hundred"]]),
    ("zygote-", &[&["ends::"], &["exec::"], &["walls::"], &["apparmor"]]),
    ("samara_shim_client-", &[&["cgroup::"]]),
];

/// What is to run; `None` if the host has pure v2 itself.
pub(crate) fn needed() -> Result<Option<Plan>> {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if controllers.split_whitespace().any(|name| name == "memory") {
        return Ok(None);
    }
    let Some(list) = env::var_os("SAMARA_CGROUP2_TESTS").filter(|list| !list.is_empty()) else {
        bail!("the host has cgroup v1; the tests for v2 are run by `make test`, which builds what they need");
    };
    Ok(Some(Plan { runs: env::split_paths(&list).flat_map(runs_of).collect() }))
}

fn runs_of(program: PathBuf) -> Vec<Run> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let of_program = TESTS.iter().find(|(program, _)| name.starts_with(program));
    let runs = of_program.map_or(&[][..], |(_, runs)| runs);
    let args = |filters: &[&str]| {
        filters.iter().chain(&["--test-threads", "2", "--color", "never"]).map(ToString::to_string).collect()
    };
    runs.iter().map(|filters| Run { program: program.clone(), args: args(filters) }).collect()
}

/// Boots the machine, and returns what its tests came to.
pub(crate) fn boot(plan: &Plan) -> Result<Vec<Outcome>> {
    let machine = workspace().join("target/machine");
    let kernel = machine.join("vmlinuz");
    ensure!(kernel.exists(), "no {}: run `make machine`", kernel.display());
    let initrd = machine.join("initramfs");
    pack(plan, &machine)?.write(&initrd)?;

    let began = Instant::now();
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-m", "2G", "-smp", "2", "-nographic", "-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(&kernel)
        .arg("-initrd")
        .arg(&initrd)
        .args(["-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start qemu-system-x86_64: run `make machine`")?;
    let output = qemu.stdout.take().context("a pipe was asked for")?;
    let reader = std::thread::spawn(move || read(output));
    while qemu.try_wait()?.is_none() {
        if began.elapsed() > LIMIT {
            qemu.kill()?;
            qemu.wait()?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = reader.join().unwrap_or_default();
    std::fs::write(machine.join("console.txt"), &text)?;
    let all = outcomes(&text);
    eprintln!("{} tests on pure cgroup v2 in {:.0} s", all.len(), began.elapsed().as_secs_f64());
    ensure!(!all.is_empty(), "no test ran; its console is in {}", machine.join("console.txt").display());
    Ok(all)
}

fn read(output: impl std::io::Read) -> String {
    let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).trim_end().to_owned() + "\n").collect()
}

/// Everything that is in the machine.
fn pack(plan: &Plan, machine: &Path) -> Result<Initramfs> {
    let own = env::current_exe().context("this program's file")?;
    let mut files = Initramfs::default();
    files.text(PLAN, &serde_json::to_string(plan)?);
    files.program(&own, "/init")?;
    for name in MODULES {
        let file = find(&machine.join("modules"), name).with_context(|| format!("no {name}: run `make machine`"))?;
        files.file(&file, &format!("/modules/{name}"))?;
    }
    let parser = machine.join("apparmor_parser");
    files.program(&parser, PARSER).context("run `make machine`")?;
    files.text(PROFILE, include_str!("../../machine/apparmor"));
    for run in &plan.runs {
        files.program(&run.program, &run.program.to_string_lossy())?;
    }
    // The shim which the tests start is where cargo built it.
    let directory = plan.runs.first().and_then(|run| run.program.ancestors().nth(2)).context("no tests to run")?;
    let shim = directory.join("containerd-shim-samara-v1");
    files.program(&shim, &shim.to_string_lossy())?;
    Ok(files)
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { Some(path).filter(|path| path.ends_with(name)) }
    })
}
