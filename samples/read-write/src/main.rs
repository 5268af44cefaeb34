//! Counts its own runs in `$DIR/count` (default `/data`) and lists the directory.
//! Shows what a volume keeps, and what the writable layer of a container does not.

use std::path::PathBuf;
use std::{env, fs, io, process};

fn main() {
    let directory = PathBuf::from(env::var_os("DIR").unwrap_or_else(|| "/data".into()));
    if let Err(error) = count(&directory) {
        eprintln!("{}: {error}", directory.display());
        process::exit(1);
    }
}

fn count(directory: &PathBuf) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let file = directory.join("count");
    let runs = match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse::<u64>().map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    } + 1;
    let temporary = directory.join("count.tmp");
    fs::write(&temporary, format!("{runs}\n"))?;
    fs::rename(&temporary, &file)?;
    println!("run {runs}");

    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let length = entry.metadata()?.len();
        names.push(format!("{} {length}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    for name in names {
        println!("{name}");
    }
    Ok(())
}
