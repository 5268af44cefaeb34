//! What is wanted of a container: all flags, read and checked together. Pure but for the files of `--env-file`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};

use super::args::RunArgs;
use super::flag::{env, memory, mount, publish};
use crate::container::{Network, Publication, check_name};
use crate::supervise::restart::RestartPolicy;

/// A container, as its user means it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wanted {
    /// File or image.
    pub(crate) image: String,
    /// Instead of the image's; with it the image's command falls away too.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Instead of the image's command, unless empty.
    pub(crate) args: Vec<String>,
    /// None: one of our own.
    pub(crate) name: Option<String>,
    /// `NAME=VALUE`, over the image's.
    pub(crate) env: Vec<String>,
    pub(crate) mounts: Vec<mount::Mount>,
    pub(crate) ports: Vec<Publication>,
    /// Port of a `wasi:http` guest, instead of the first published one.
    pub(crate) http_port: Option<u16>,
    /// Bytes.
    pub(crate) memory: Option<i64>,
    pub(crate) cpus: Option<f64>,
    pub(crate) network: Network,
    /// Instead of one of its own: containers of one pod share it.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) user: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) restart: RestartPolicy,
    pub(crate) workdir: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) stop_timeout: u32,
    pub(crate) interactive: bool,
    pub(crate) terminal: bool,
    pub(crate) remove: bool,
}

impl Wanted {
    /// Reads every flag; `here` gives the value of a variable of this process.
    pub(super) fn of(args: RunArgs, here: impl Fn(&str) -> Option<String>) -> Result<Self> {
        check_together(&args)?;
        let mut command = args.command.into_iter();
        args.name.as_deref().map(check_name).transpose()?;
        let mut variables = Vec::new();
        for file in &args.env_file {
            let text = fs::read_to_string(file).with_context(|| format!("--env-file {}", file.display()))?;
            variables.extend(env::file(&text, &here).with_context(|| format!("--env-file {}", file.display()))?);
        }
        for text in &args.env {
            variables.push(env::variable(text, &here)?);
        }
        let mounts = args.volume.iter().map(|text| mount::volume(text)).collect::<Result<Vec<_>>>()?;
        let more = args.mount.iter().map(|text| mount::mount(text));
        let more = more.chain(args.tmpfs.iter().map(|text| mount::tmpfs(text))).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            image: command.next().unwrap_or_default(),
            // Docker's way to say: none.
            entrypoint: args.entrypoint.map(|program| if program.is_empty() { Vec::new() } else { vec![program] }),
            args: command.collect(),
            name: args.name,
            env: variables,
            mounts: each_place_once(mounts.into_iter().chain(more).collect())?,
            ports: args.publish.iter().map(|text| publish::parse(text)).collect::<Result<_>>()?,
            http_port: None,
            memory: args.memory.as_deref().map(memory::parse).transpose().context("--memory")?,
            cpus: args.cpus,
            network: args.network,
            address: None,
            user: args.user,
            read_only: args.read_only,
            restart: args.restart,
            workdir: args.workdir,
            hostname: args.hostname,
            labels: args.label.iter().map(|text| env::label(text)).collect::<Result<_>>()?,
            stop_timeout: args.stop_timeout,
            interactive: args.interactive,
            terminal: args.tty,
            remove: args.rm,
        })
    }
}

/// One of two at the same path would not be seen.
fn each_place_once(mounts: Vec<mount::Mount>) -> Result<Vec<mount::Mount>> {
    let mut places = BTreeSet::new();
    if let Some(twice) = mounts.iter().find(|mount| !places.insert(&mount.target)) {
        bail!("duplicate mount point: two are to be mounted at {}", twice.target.display());
    }
    Ok(mounts)
}

/// Flags that contradict each other.
fn check_together(args: &RunArgs) -> Result<()> {
    if args.rm && args.restart != RestartPolicy::No {
        bail!("--rm removes the container when it has ended, --restart starts it again: leave one of them out");
    }
    if args.restart != RestartPolicy::No && !args.detach {
        bail!("--restart needs -d: an attached container ends with its `samara run`");
    }
    if !args.publish.is_empty() {
        match args.network {
            Network::Private => {}
            Network::Host => bail!(
                "-p is for containers with an address of their own: with --network host the guest listens on this \
                 machine's ports itself (-e PORT=... chooses the port of a wasi:http guest)"
            ),
            Network::None => bail!("-p needs a network, and --network none is none"),
        }
    }
    if let Some(cpus) = args.cpus
        && (cpus.is_nan() || !(0.01..=10_000.0).contains(&cpus))
    {
        bail!("--cpus {cpus}: must be from 0.01 to 10000");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn wanted(line: &str) -> Result<Wanted> {
        let words = ["run"].into_iter().chain(line.split_whitespace());
        Wanted::of(Line::try_parse_from(words)?.run, |name| (name == "HERE").then(|| "here".into()))
    }

    #[test]
    fn flags_before_the_image_are_ours_and_after_it_the_guests() {
        let all = wanted("--rm -it -e A=1 -e HERE -m 64m --name web app.wasm -e B=2 --rm -- x").unwrap();
        assert_eq!(all.image, "app.wasm");
        assert_eq!(all.args, ["-e", "B=2", "--rm", "--", "x"]);
        assert_eq!(all.env, ["A=1", "HERE=here"]);
        assert_eq!((all.memory, all.name.as_deref()), (Some(64 << 20), Some("web")));
        assert!(all.remove && all.interactive && all.terminal);
    }

    #[test]
    fn an_empty_entrypoint_is_none() {
        let of = |line: &[&str]| {
            let words = ["run"].iter().chain(line);
            Wanted::of(Line::try_parse_from(words).unwrap().run, |_| None).unwrap().entrypoint
        };
        assert_eq!(of(&["app"]), None);
        assert_eq!(of(&["--entrypoint", "/b", "app"]), Some(vec!["/b".into()]));
        assert_eq!(of(&["--entrypoint", "", "app", "/b"]), Some(vec![]));
    }

    #[test]
    fn pull_may_stand_alone() {
        for line in ["--pull app", "--pull=always app", "--pull=never app", "--pull=missing app"] {
            assert_eq!(wanted(line).unwrap().image, "app", "{line}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_a_way_out() {
        for (line, says) in [
            ("--rm --restart always -d a", "leave one of them out"),
            ("--restart always a", "--restart needs -d"),
            ("--network host -p 80:80 a", "-e PORT="),
            ("--network none -p 80:80 a", "-p needs a network"),
            ("--cpus 0 a", "0.01"),
            ("--cpus NaN a", "0.01"),
            ("--cpus 10001 a", "to 10000"),
            ("--memory 64x a", "--memory: \"64x\""),
            ("-v a:/x -v b:/x/ a", "duplicate mount point"),
            ("-v a:/x --tmpfs /x a", "duplicate mount point"),
            ("--name ../x a", "cannot be a name"),
            ("--env-file /nowhere/at/all a", "--env-file /nowhere/at/all"),
        ] {
            let error = format!("{:#}", wanted(line).unwrap_err());
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
