//! `samara save` and `load`: images as OCI layouts, for where no registry is.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use samara_images::{Import, Puller, PullerConfig, Reference};

use super::progress::Shown;
use super::store;
use crate::format::print;
use crate::place::Place;

/// What `samara save` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara save -o app.tar registry.example/app:v1
  samara save registry.example/app:v1 | ssh edge samara load
  samara save --directory layout registry.example/app:v1 registry.example/db:v2")]
pub(crate) struct SaveArgs {
    /// Images that are here
    #[arg(required = true)]
    images: Vec<String>,
    /// A file, instead of standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "directory")]
    output: Option<PathBuf>,
    /// An OCI layout in a directory, instead of an archive
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// What `samara load` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara load -i app.tar
  docker save registry.example/app:v1 | samara load
  samara load -i ./layout --name registry.example/app:v1      # what it holds has no name of its own")]
pub(crate) struct LoadArgs {
    /// An archive, packed or not, or a directory; instead of standard input
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// For images without a name
    #[arg(long)]
    name: Option<String>,
    /// No bar
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn save(args: SaveArgs) -> Result<ExitCode> {
    let images = args.images.iter().map(|name| Ok(Reference::parse(name)?)).collect::<Result<Vec<_>>>()?;
    let store = store::open(&args.place.absolute()?)?;
    match (args.directory, args.output) {
        (Some(dir), _) => store.export_directory(&images, &dir)?,
        (None, Some(path)) => {
            let path = destination(&path).with_context(|| format!("-o {}", path.display()))?;
            // A half-written archive must not be taken for one.
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(".".as_ref());
            let file = tempfile::NamedTempFile::new_in(dir).with_context(|| format!("write to {}", dir.display()))?;
            store.export_archive(&images, BufWriter::new(file.as_file()))?;
            file.persist(&path).with_context(|| format!("write {}", path.display()))?;
        }
        (None, None) if io::stdout().is_terminal() => {
            bail!("an archive is not for a terminal: -o FILE, or redirect it")
        }
        (None, None) => store.export_archive(&images, BufWriter::new(io::stdout().lock()))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn load(args: LoadArgs) -> Result<ExitCode> {
    let unnamed = args.name.as_deref().map(Reference::parse).transpose()?;
    let from = match &args.input {
        Some(path) => Import::open(path)?,
        None if io::stdin().is_terminal() => bail!("there is nothing to load: -i FILE, or redirect one here"),
        None => Import::Archive(Box::new(File::from(rustix::io::dup(io::stdin())?))),
    };
    let puller = Puller::new(store::open(&args.place.absolute()?)?, PullerConfig::default());
    let what = args.input.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let shown = Shown::new("loading", args.quiet);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let images = runtime.block_on(puller.import(from, unnamed.as_ref(), &shown));
    drop(shown);
    for (_, names) in images.with_context(|| format!("load {what}"))? {
        print(names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that is written: what a link leads to. Docker's rule: nothing but a file makes way for it, no device and no
/// fifo.
fn destination(path: &Path) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(path.canonicalize()?),
        Ok(found) if found.is_dir() => bail!("it is a directory: --directory writes an OCI layout into one"),
        Ok(_) => bail!("it is no file, and would be replaced by one: without -o, standard output can go there"),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        Err(_) if fs::symlink_metadata(path).is_ok() => bail!("it is a link that leads nowhere"),
        Err(_) => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_a_file_is_replaced_and_of_a_link_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        fs::write(at("file"), "x").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("nothing", at("nowhere")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, file) in [("file", "file"), ("link", "file"), ("new", "new")] {
            assert_eq!(destination(&at(name)).unwrap(), at(file), "{name}");
        }
        for (path, says) in [
            (at("fifo"), "is no file"),
            ("/dev/null".into(), "is no file"),
            (at(""), "--directory"),
            (at("nowhere"), "leads nowhere"),
            (at("file/x"), "Not a directory"),
        ] {
            let error = destination(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{}: {error}", path.display());
        }
    }
}
