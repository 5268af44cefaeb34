//! Names of containers that are taken: links to their directories, in a directory of their own. One process at a time
//! changes them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

use super::lock;

/// Another container has it.
#[derive(Debug, thiserror::Error)]
#[error("the name {0} is taken: `samara rm {0}` removes its container, `--name` gives this one another")]
pub(crate) struct NameTaken(String);

/// The directory of names; it lies beside the containers.
#[derive(Debug)]
pub(super) struct Names {
    dir: PathBuf,
}

impl Names {
    pub(super) fn in_dir(containers: &Path) -> Self {
        Self { dir: containers.join("names") }
    }

    /// Gives a name to a container whose directory is there, and locked until it is a container. [`NameTaken`] if another
    /// one has it; what a removal left that was cut short has none.
    pub(super) fn take(&self, name: &str, id: &str) -> Result<()> {
        let _one_at_a_time = self.gate()?;
        let link = self.dir.join(name);
        if let Ok(holder) = fs::read_link(&link)
            && self.holds(&holder)
        {
            return Err(NameTaken(name.to_owned()).into());
        }
        let temporary = self.dir.join(format!(".{id}"));
        symlink(Path::new("..").join(id), &temporary)
            .and_then(|()| fs::rename(&temporary, &link))
            .with_context(|| format!("make {}", link.display()))
    }

    fn holds(&self, holder: &Path) -> bool {
        let dir = self.dir.join(holder);
        dir.join("container.json").exists() || lock::is_taken(&dir)
    }

    /// Takes a name away from this container, if it has it.
    pub(super) fn free(&self, name: &str, id: &str) -> Result<()> {
        if !fs::exists(&self.dir).unwrap_or(true) {
            return Ok(());
        }
        let _one_at_a_time = self.gate()?;
        let link = self.dir.join(name);
        if !leads_to(&link, id) {
            return Ok(());
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.with_context(|| format!("free the name {name}")),
        }
    }

    /// The name that a container has, for one that cannot tell it itself.
    pub(super) fn of(&self, id: &str) -> Option<String> {
        let mut entries = fs::read_dir(&self.dir).ok()?.flatten();
        entries.find(|entry| leads_to(&entry.path(), id))?.file_name().into_string().ok()
    }

    /// Held for as long as a few system calls take.
    fn gate(&self) -> Result<File> {
        fs::create_dir_all(&self.dir).with_context(|| format!("make {}", self.dir.display()))?;
        let gate = File::open(&self.dir).with_context(|| format!("open {}", self.dir.display()))?;
        flock(&gate, FlockOperation::LockExclusive).with_context(|| format!("lock {}", self.dir.display()))?;
        Ok(gate)
    }
}

fn leads_to(link: &Path, id: &str) -> bool {
    fs::read_link(link).is_ok_and(|target| target.ends_with(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_by_one_that_is_being_made_and_free_when_only_ruins_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::in_dir(dir.path());
        fs::create_dir(dir.path().join("aa")).unwrap();
        let being_made = lock::take(&dir.path().join("aa")).unwrap();
        names.take("web", "aa").unwrap();
        assert!(names.take("web", "bb").unwrap_err().is::<NameTaken>());
        assert_eq!(names.of("aa").as_deref(), Some("web"));
        drop(being_made);
        names.take("web", "bb").unwrap();
        names.free("web", "aa").unwrap();
        assert_eq!((names.of("aa"), names.of("bb").as_deref()), (None, Some("web")));
    }

    #[test]
    fn of_many_who_want_one_name_at_once_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let taken = std::thread::scope(|scope| {
            let one = |number: u32| {
                let dir = dir.path();
                scope.spawn(move || {
                    let id = format!("id{number}");
                    fs::create_dir(dir.join(&id)).unwrap();
                    let held = lock::take(&dir.join(&id)).unwrap();
                    let taken = Names::in_dir(dir).take("web", &id);
                    fs::write(dir.join(&id).join("container.json"), "").unwrap();
                    drop(held);
                    taken.is_ok()
                })
            };
            let all: Vec<_> = (0..16).map(one).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(|taken| *taken).count()
        });
        assert_eq!(taken, 1);
    }
}
