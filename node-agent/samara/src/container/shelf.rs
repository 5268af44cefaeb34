//! All containers of a root directory: made, found, listed, removed.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use oci_spec::runtime::Spec;
use samara_inside::remove_directory_at;
use samara_shim_client::bundle::{Bundle, ExitRecord};
use samara_shim_client::process;

use super::lock::{self, Held};
use super::names::Names;
use super::record::SHORT_ID;
use super::state::{Ended, State, StopRequest, has_ended};
use super::status::Status;
use super::{Record, check_name, file};
use crate::place::Place;
use crate::tell::remark;

/// The directory of all containers.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    dir: PathBuf,
    place: Place,
}

/// One container's directory, with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    dir: PathBuf,
    pub(crate) record: Record,
    member: Option<Box<Member>>,
}

/// What is otherwise of a container that a pod's node looks after (`samara kube`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) pod: String,
    pub(crate) state: State,
    /// Directory of its front.
    pub(crate) front: PathBuf,
    pub(crate) log: PathBuf,
    /// It has ended, and its node will start it again.
    pub(crate) restarts: bool,
}

/// There is none of that name or id.
#[derive(Debug, thiserror::Error)]
#[error("there is no container {0:?}: `samara ps -a` lists them")]
pub(crate) struct NoSuchContainer(String);

/// A directory whose `container.json` cannot be read, for instance after the power failed.
#[derive(Debug)]
struct Damaged {
    dir: PathBuf,
    why: anyhow::Error,
}

impl Damaged {
    fn error(&self) -> anyhow::Error {
        let id = id_of(&self.dir);
        let id = id.get(..SHORT_ID).unwrap_or(&id);
        anyhow::Error::msg(format!("{:#}: `samara rm -f {id}` removes what is left of it", self.why))
    }
}

fn id_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Shelf {
    /// Names it; touches nothing.
    pub(crate) fn of(place: &Place) -> Self {
        Self { dir: place.containers(), place: place.clone() }
    }

    fn names(&self) -> Names {
        Names::in_dir(&self.dir)
    }

    /// A new container, and its lock: whoever makes it is to start it. [`NameTaken`](super::NameTaken) if another one has
    /// its name.
    pub(crate) fn create(&self, record: Record, spec: &Spec) -> Result<(Container, Held)> {
        check_name(&record.name)?;
        let dir = self.dir.join(&record.id);
        let made = || -> Result<Held> {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            for part in ["rootfs", "upper", "work", "log"] {
                builder.create(dir.join(part)).with_context(|| format!("make {}", dir.display()))?;
            }
            // The guest's root is the guest's to see, whoever it runs as.
            for part in ["rootfs", "upper"] {
                let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
                fs::set_permissions(dir.join(part), open).with_context(|| format!("open {}", dir.display()))?;
            }
            let held = lock::take(&dir)?.context("somebody else has its lock")?;
            spec.save(dir.join("config.json")).context("write config.json")?;
            file::write(&dir.join("state.json"), &State::default())?;
            self.names().take(&record.name, &record.id)?;
            // The last: what has none is not a container.
            file::write(&dir.join("container.json"), &record)?;
            Ok(held)
        };
        let container = Container { dir: dir.clone(), record: record.clone(), member: None };
        let held = made().inspect_err(|_| drop(self.remove(&container)))?;
        Ok((container, held))
    }

    /// Another name for it. The new one is taken first, so that it has one at every moment.
    pub(crate) fn rename(&self, container: &Container, name: &str) -> Result<()> {
        check_name(name)?;
        let old = container.record.name.clone();
        if old == name {
            bail!("it is called {name} already");
        }
        let record = Record { name: name.to_owned(), ..container.record.clone() };
        self.names().take(name, &record.id)?;
        let written = file::write(&container.dir.join("container.json"), &record);
        let loser = if written.is_ok() { &old } else { &record.name };
        written.and(self.names().free(loser, &record.id))
    }

    /// Every container, oldest first. A directory that is none is left out; so is one that is damaged, which is told.
    pub(crate) fn list(&self) -> Result<Vec<Container>> {
        let (all, damaged) = self.scan()?;
        for one in damaged {
            remark(format_args!("left out: {:#}", one.error()));
        }
        Ok(all)
    }

    /// What stands in the way of judging what nobody uses.
    pub(crate) fn must_be_whole(&self) -> Result<()> {
        match self.scan()?.1.first() {
            Some(damaged) => bail!("what it uses is not known: {:#}", damaged.error()),
            None => Ok(()),
        }
    }

    fn scan(&self) -> Result<(Vec<Container>, Vec<Damaged>)> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            entries => entries.with_context(|| format!("read {}", self.dir.display()))?,
        };
        let (mut all, mut damaged) = (Vec::new(), Vec::new());
        for entry in entries {
            let dir = entry?.path();
            match file::read(&dir.join("container.json")) {
                Ok(Some(record)) => all.push(Container { dir, record, member: None }),
                Ok(None) => {}
                Err(why) => damaged.push(Damaged { dir, why }),
            }
        }
        all.sort_by(|a: &Container, b| (a.record.created_at, &a.record.id).cmp(&(b.record.created_at, &b.record.id)));
        Ok((all, damaged))
    }

    /// [`Shelf::list`], and the containers of pods after them.
    pub(crate) fn all(&self) -> Result<Vec<Container>> {
        let mut all = self.list()?;
        all.extend(crate::kube::member::all(&self.place)?);
        Ok(all)
    }

    /// By name, or by the beginning of an id that only one has. Own ones go before those of pods. [`NoSuchContainer`] if
    /// there is none.
    pub(crate) fn find(&self, wanted: &str) -> Result<Container> {
        let (mut all, damaged) = self.scan()?;
        all.extend(crate::kube::member::all(&self.place)?);
        let named = all.iter().find(|container| container.record.name == wanted || container.record.id == wanted);
        if let Some(found) = named {
            return Ok(found.clone());
        }
        if let Some(damaged) = damaged.iter().find(|damaged| self.is_meant(damaged, wanted)) {
            return Err(damaged.error());
        }
        let mut matching = all.iter().filter(|container| !wanted.is_empty() && container.record.id.starts_with(wanted));
        match (matching.next(), matching.next()) {
            (Some(found), None) => Ok(found.clone()),
            (Some(_), Some(_)) => {
                bail!("{wanted:?} is the beginning of more than one container's id: write more of it")
            }
            (None, _) => Err(NoSuchContainer(wanted.to_owned()).into()),
        }
    }

    /// [`Shelf::find`] for who removes it: of a damaged one as much as is known.
    pub(crate) fn find_to_remove(&self, wanted: &str) -> Result<Container> {
        let damaged = self.scan()?.1.into_iter().find(|damaged| self.is_meant(damaged, wanted));
        match damaged {
            Some(Damaged { dir, .. }) => {
                let id = id_of(&dir);
                let name = self.names().of(&id).unwrap_or_else(|| id.clone());
                Ok(Container { dir, record: Record::unknown(id, name), member: None })
            }
            None => self.find(wanted),
        }
    }

    /// By its name, or by as much of its id as `ps` shows.
    fn is_meant(&self, damaged: &Damaged, wanted: &str) -> bool {
        let id = id_of(&damaged.dir);
        (wanted.len() >= SHORT_ID && id.starts_with(wanted)) || self.names().of(&id).as_deref() == Some(wanted)
    }

    /// Removes its directory and its name. For who holds its lock, and when nothing of it lives. Twice is as once.
    pub(crate) fn remove(&self, container: &Container) -> Result<()> {
        let missing_is_fine = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        // From here on it is nobody's container, whatever happens.
        missing_is_fine(fs::remove_file(container.dir.join("container.json")))
            .and_then(|()| missing_is_fine(remove_directory_at(&container.dir).map(drop)))
            .with_context(|| format!("remove {}", container.dir.display()))?;
        self.names().free(&container.record.name, &container.record.id)
    }
}

impl Container {
    /// By its directory, as its monitor is given it.
    pub(crate) fn at(dir: &Path) -> Result<Self> {
        let record = file::read(&dir.join("container.json"))?;
        let record = record.with_context(|| format!("{} is not a container", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), record, member: None })
    }

    /// One that a pod's node looks after; `bundle` is its directory.
    pub(crate) fn of_pod(bundle: &Path, record: Record, member: Member) -> Self {
        Self { dir: bundle.to_owned(), record, member: Some(Box::new(member)) }
    }

    /// An error for one of a pod: its node would undo what is asked.
    pub(crate) fn must_be_own(&self) -> Result<()> {
        match &self.member {
            None => Ok(()),
            Some(member) => bail!(
                "it is a container of the pod {}, which has its own way: `samara kube down` ends the pod, `samara kill` \
                 this container, which is then started again if the pod's restartPolicy says so",
                member.pod
            ),
        }
    }

    /// Where its front is, if that is not where fronts of containers are.
    pub(crate) fn front(&self) -> Option<&Path> {
        self.member.as_ref().map(|member| member.front.as_path())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::new(&self.dir)
    }

    pub(crate) fn log(&self) -> PathBuf {
        match &self.member {
            Some(member) => member.log.clone(),
            None => self.dir.join("log/ctr.log"),
        }
    }

    pub(crate) fn spec(&self) -> Result<Spec> {
        let path = self.bundle().config();
        Spec::load(&path).with_context(|| format!("read {}", path.display()))
    }

    pub(crate) fn state(&self) -> Result<State> {
        if let Some(member) = &self.member {
            return Ok(member.state.clone());
        }
        Ok(file::read(&self.dir.join("state.json"))?.unwrap_or_default())
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<()> {
        file::write(&self.dir.join("state.json"), state)
    }

    pub(crate) fn stop_request(&self) -> Result<Option<StopRequest>> {
        file::read(&self.dir.join("stop.json"))
    }

    pub(crate) fn write_stop_request(&self, request: &StopRequest) -> Result<()> {
        file::write(&self.dir.join("stop.json"), request)
    }

    /// A new start begins with none.
    pub(crate) fn forget_stop_request(&self) -> Result<()> {
        match fs::remove_file(self.dir.join("stop.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove stop.json"),
            _ => Ok(()),
        }
    }

    /// Its process, if that lives.
    pub(crate) fn pid(&self) -> Result<Option<i32>> {
        let Some(start) = self.bundle().start_record().context("read start.json")? else { return Ok(None) };
        if self.bundle().exit_record().context("read exit.json")?.is_some() {
            return Ok(None);
        }
        let living = process::open(start.pid, start.start_time).context("look for the process")?;
        Ok(living.filter(|process| !has_ended(process)).map(|_| start.pid))
    }

    /// Its lock; `None`: it is somebody else's for now. An error if it has just been removed.
    pub(crate) fn try_lock(&self) -> Result<Option<Held>> {
        lock::take(&self.dir)
    }

    /// What it is doing.
    pub(crate) fn status(&self) -> Result<Status> {
        let state = self.state()?;
        if self.member.as_ref().is_some_and(|member| member.restarts) {
            return Ok(Status::Restarting { ended: state.ended });
        }
        let supervised = state.supervisor.is_some_and(|supervisor| supervisor.open().is_some());
        let exit = self.bundle().exit_record().context("read exit.json")?;
        Ok(Status::of(&state, supervised, self.pid()?.is_some(), exit.map(|exit| ended(&exit))))
    }
}

/// As the zygote wrote it.
pub(crate) fn ended(exit: &ExitRecord) -> Ended {
    Ended {
        exit_code: u8::try_from(exit.exit_code).unwrap_or(255),
        oom_killed: exit.oom_killed,
        message: exit.message.clone(),
        finished_at: Timestamp::from_nanosecond(exit.exited_at_nanos.into()).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::record;
    use super::*;

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(&Place::new(dir.path(), dir.path()));
        (dir, shelf)
    }

    fn with_id(name: &str, id: &str) -> Record {
        Record { id: id.repeat(32), ..record(name) }
    }

    #[test]
    fn a_name_is_taken_by_one_container_until_that_is_removed() {
        let (_dir, shelf) = shelf();
        let first = shelf.create(with_id("web", "aa"), &Spec::default()).unwrap().0;
        let error = shelf.create(with_id("web", "bb"), &Spec::default()).unwrap_err().to_string();
        assert!(error.contains("samara rm web"), "{error}");
        assert_eq!(shelf.list().unwrap(), std::slice::from_ref(&first));
        shelf.remove(&first).unwrap();
        shelf.remove(&first).unwrap();
        let second = shelf.create(with_id("web", "bb"), &Spec::default()).unwrap().0;
        assert_eq!(shelf.list().unwrap(), [second]);
    }

    #[test]
    fn a_renamed_container_has_its_new_name_and_frees_the_old_one() {
        let (_dir, shelf) = shelf();
        let first = shelf.create(with_id("web", "aa"), &Spec::default()).unwrap().0;
        shelf.create(with_id("db", "bb"), &Spec::default()).unwrap();
        for bad in ["db", "web", "../x", ""] {
            assert!(shelf.rename(&first, bad).is_err(), "{bad}");
        }
        assert_eq!(shelf.find("web").unwrap(), first);
        shelf.rename(&first, "front").unwrap();
        assert!(shelf.find("web").is_err());
        assert_eq!(shelf.find("front").unwrap().record.id, first.record.id);
        shelf.create(with_id("web", "cc"), &Spec::default()).unwrap();
        shelf.remove(&shelf.find("front").unwrap()).unwrap();
        assert!(shelf.find("web").is_ok() && shelf.find("front").is_err());
    }

    #[test]
    fn a_name_that_leads_nowhere_is_free() {
        let (_dir, shelf) = shelf();
        let first = shelf.create(with_id("web", "aa"), &Spec::default()).unwrap().0;
        fs::remove_dir_all(first.dir()).unwrap();
        let second = shelf.create(with_id("web", "bb"), &Spec::default()).unwrap().0;
        shelf.remove(&first).unwrap();
        assert_eq!(shelf.find("web").unwrap(), second);
    }

    /// A guest makes such a tree by renaming directories into each other.
    #[test]
    fn a_container_with_a_tree_deeper_than_the_stack_in_its_own_layer_is_removed() {
        let (_dir, shelf) = shelf();
        let container = shelf.create(with_id("web", "aa"), &Spec::default()).unwrap().0;
        let at = |name: &str| container.dir().join("upper").join(name);
        fs::create_dir(at("tree")).unwrap();
        for _ in 0..20_000 {
            fs::create_dir(at("above")).unwrap();
            fs::rename(at("tree"), at("above/d")).unwrap();
            fs::rename(at("above"), at("tree")).unwrap();
        }
        shelf.remove(&container).unwrap();
        assert!(!container.dir().exists() && shelf.find("web").is_err());
        shelf.remove(&container).unwrap();
    }

    #[test]
    fn a_container_is_found_by_name_or_by_enough_of_its_id() {
        let (_dir, shelf) = shelf();
        assert!(shelf.find("web").is_err());
        let first = shelf.create(with_id("web", "aa"), &Spec::default()).unwrap().0;
        let second = shelf.create(with_id("aa", "ab"), &Spec::default()).unwrap().0;
        assert_eq!(shelf.find("web").unwrap(), first);
        assert_eq!(shelf.find("aa").unwrap(), second, "a name counts more than an id");
        assert_eq!(shelf.find("aaa").unwrap(), first);
        let ambiguous = shelf.find("a").unwrap_err();
        assert!(ambiguous.to_string().contains("more than one") && !ambiguous.is::<NoSuchContainer>());
        for missing in ["", "zz", "../aa", "web/"] {
            assert!(shelf.find(missing).unwrap_err().to_string().contains("samara ps -a"), "{missing:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_no_trouble_to_the_others_and_can_be_removed() {
        let (_dir, shelf) = shelf();
        let (container, other) = (with_id("web", "aa"), with_id("db", "bb"));
        let container = shelf.create(container, &Spec::default()).unwrap().0;
        let other = shelf.create(other, &Spec::default()).unwrap().0;
        fs::create_dir(shelf.dir.join("unfinished")).unwrap();
        assert_eq!(shelf.list().unwrap().len(), 2);
        assert_eq!(container.status().unwrap(), Status::Created);
        shelf.must_be_whole().unwrap();
        for text in ["", "{"] {
            fs::write(container.dir().join("container.json"), text).unwrap();
            assert_eq!(shelf.list().unwrap(), std::slice::from_ref(&other));
            assert_eq!(shelf.find("db").unwrap(), other);
            for error in [shelf.find("web").unwrap_err(), shelf.must_be_whole().unwrap_err()] {
                let text = format!("{error:#}");
                let says = "container.json is damaged";
                assert!(text.contains(says) && text.contains("`samara rm -f aaaaaaaaaaaa`"), "{text}");
                assert!(!error.is::<NoSuchContainer>());
            }
        }
        assert!(shelf.find("none").unwrap_err().is::<NoSuchContainer>());
        for wanted in ["web", "aaaaaaaaaaaa"] {
            assert_eq!(shelf.find_to_remove(wanted).unwrap().dir(), container.dir(), "{wanted}");
        }
        shelf.remove(&shelf.find_to_remove("web").unwrap()).unwrap();
        assert!(!container.dir().exists() && shelf.find_to_remove("web").unwrap_err().is::<NoSuchContainer>());
        shelf.create(with_id("web", "cc"), &Spec::default()).unwrap();
    }

    #[test]
    fn a_container_is_locked_from_before_it_can_be_found() {
        let (_dir, shelf) = shelf();
        let (container, held) = shelf.create(with_id("web", "aa"), &Spec::default()).unwrap();
        assert!(container.try_lock().unwrap().is_none());
        drop(held);
        let held = container.try_lock().unwrap().unwrap();
        shelf.remove(&container).unwrap();
        drop(held);
        assert!(container.try_lock().is_err(), "it is gone");
    }
}
