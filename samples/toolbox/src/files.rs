//! Commands about names in directories.

use std::path::Path;
use std::{env, fs};

use crate::{Outcome, named};

/// `ls [-l] [-a] [PATH...]`: names sorted; `-l` adds kind and length, `-a` what begins with a dot.
pub fn ls(arguments: &[String]) -> Outcome {
    let has = |letter| arguments.iter().any(|argument| argument.starts_with('-') && argument.contains(letter));
    let (long, all) = (has('l'), has('a'));
    let mut paths: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if paths.is_empty() {
        paths.push(".");
    }
    for path in &paths {
        let kind = fs::metadata(path).map_err(named(path))?;
        if !kind.is_dir() {
            println!("{}", line(Path::new(path), path, long)?);
            continue;
        }
        if paths.len() > 1 {
            println!("{path}:");
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(named(path))? {
            let entry = entry.map_err(named(path))?;
            if !all && entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            names.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
        names.sort();
        for (name, path) in names {
            println!("{}", line(&path, &name, long)?);
        }
    }
    Ok(())
}

fn line(path: &Path, name: &str, long: bool) -> Result<String, String> {
    if !long {
        return Ok(name.to_owned());
    }
    let about = fs::symlink_metadata(path).map_err(named(name))?;
    if about.is_symlink() {
        let target = fs::read_link(path).map_err(named(name))?;
        return Ok(format!(
            "l {:>10} {name} -> {}",
            about.len(),
            target.display()
        ));
    }
    let kind = if about.is_dir() { 'd' } else { '-' };
    Ok(format!("{kind} {:>10} {name}", about.len()))
}

/// `mkdir PATH...`, with parents.
pub fn mkdir(arguments: &[String]) -> Outcome {
    arguments
        .iter()
        .filter(|argument| *argument != "-p")
        .try_for_each(|path| fs::create_dir_all(path).map_err(named(path)))
}

/// `rm [-r] PATH...`
pub fn rm(arguments: &[String]) -> Outcome {
    let (flags, paths): (Vec<_>, Vec<_>) = arguments
        .iter()
        .partition(|argument| argument.starts_with('-'));
    let recursive = flags.iter().any(|flag| flag.contains('r'));
    for path in paths {
        let about = fs::symlink_metadata(path).map_err(named(path))?;
        if about.is_dir() && recursive {
            fs::remove_dir_all(path).map_err(named(path))?;
        } else {
            fs::remove_file(path).map_err(named(path))?;
        }
    }
    Ok(())
}

/// `pwd`: what the host says, since wasi-libc takes every program to be in `/`.
pub fn pwd(_: &[String]) -> Outcome {
    let directory = match env::var_os("PWD") {
        Some(directory) => directory.into(),
        None => env::current_dir().map_err(named("."))?,
    };
    println!("{}", directory.display());
    Ok(())
}
