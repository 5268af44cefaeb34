//! `probe COMMAND ARGUMENTS...`: does it, prints what came of it, and fails with the error's text.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;
use std::{env, fs, process, thread};

mod at;
mod net;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let Err(error) = run(&args) {
        eprintln!("{error}");
        process::exit(1);
    }
}

fn run(args: &[&str]) -> io::Result<()> {
    match *args {
        ["args"] => println!("{}", env::args().collect::<Vec<_>>().join(",")),
        ["env", name] => println!("{}", env::var(name).map_err(io::Error::other)?),
        ["cwd"] => println!("{}", env::current_dir()?.display()),
        ["say", text] => print!("{text}"),
        ["say-slowly", ref lines @ ..] => {
            for line in lines {
                println!("{line}");
                thread::sleep(Duration::from_millis(20));
            }
        }
        ["exit", code] => process::exit(number(code)?),
        ["trap"] => core::hint::black_box(deep)(3),
        ["spin"] => loop {
            core::hint::black_box(0);
        },
        ["sleep"] => thread::sleep(Duration::from_secs(3600)),
        ["grow", bytes] => {
            let memory = vec![1u8; number(bytes)?];
            println!("{}", core::hint::black_box(memory).len());
        }
        ["random"] => println!("{:016x}", RandomState::new().hash_one(0)),
        ["copy"] => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text)?;
            io::stdout().write_all(&text)?;
        }
        ["lines"] => {
            for line in io::stdin().lock().lines() {
                println!("got {}", line?);
            }
            println!("end");
        }
        ["cat", path] => print!("{}", fs::read_to_string(path)?),
        ["write", path, text] => fs::write(path, text)?,
        ["list", path] => {
            let mut names = fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name().into_string().unwrap()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            println!("{}", names.join(","));
        }
        ["size", path] => println!("{}", fs::metadata(path)?.len()),
        ["make-dir", path] => fs::create_dir(path)?,
        ["remove", path] => fs::remove_file(path)?,
        ["rename", from, to] => fs::rename(from, to)?,
        ["read-link", path] => println!("{}", fs::read_link(path)?.display()),
        ["exists", path] => println!("{}", Path::new(path).exists()),
        ["chdir-cat", dir, path] => {
            env::set_current_dir(dir)?;
            print!("{}", fs::read_to_string(path)?);
        }
        ["cat-at", dir, path] => print!("{}", at::read(dir, path)?),
        ref other => return net::run(other),
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is no number")))
}

#[inline(never)]
fn deep(depth: u32) {
    if depth == 0 {
        process::abort();
    }
    core::hint::black_box(deep)(depth - 1);
}
