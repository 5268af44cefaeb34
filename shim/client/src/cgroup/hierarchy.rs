//! Which control group hierarchies this host has, and where.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::group::{Cgroup, CgroupError};
use super::path::{self, CgroupPath};

/// A resource controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Pids,
    Freezer,
    Io,
    Hugetlb,
}

impl Controller {
    const ALL: [(Self, &str, &str); 8] = [
        (Self::Cpu, "cpu", "cpu"),
        (Self::Cpuacct, "cpuacct", ""),
        (Self::Cpuset, "cpuset", "cpuset"),
        (Self::Memory, "memory", "memory"),
        (Self::Pids, "pids", "pids"),
        (Self::Freezer, "freezer", ""),
        (Self::Io, "blkio", "io"),
        (Self::Hugetlb, "hugetlb", "hugetlb"),
    ];

    /// Joined by every container; the others only when its resources ask for them.
    pub const ALWAYS: [Self; 4] = [Self::Cpu, Self::Cpuacct, Self::Memory, Self::Pids];

    /// v2 turns these on in every parent.
    const V2: [Self; 6] = [Self::Cpu, Self::Cpuset, Self::Memory, Self::Pids, Self::Io, Self::Hugetlb];

    /// Name in v1.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(controller, ..)| *controller == self).map_or("", |(_, v1, _)| v1)
    }

    fn from_v1(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, v1, _)| *v1 == name).map(|(controller, ..)| *controller)
    }

    fn from_v2(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(.., v2)| !v2.is_empty() && *v2 == name).map(|(controller, ..)| *controller)
    }
}

/// Which interface the controllers have. A hybrid host (controllers in v1, an empty v2 beside them) is v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The host's hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    version: Version,
    /// v1: mount point and own cgroup of each controller. v2: the same for all.
    controllers: BTreeMap<Controller, Place>,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    mount: PathBuf,
    /// Our own cgroup, below `mount`.
    own: PathBuf,
}

impl Cgroups {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub fn detect() -> Result<Self, CgroupError> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.into(), source });
        let mounts = mounts(&read("/proc/self/mountinfo")?);
        let own = own(&read("/proc/self/cgroup")?);
        let unified = mounts.iter().find(|mount| mount.controllers.is_none());
        let listed =
            unified.map(|mount| fs::read_to_string(mount.point.join("cgroup.controllers")).unwrap_or_default());
        Self::of(&mounts, &own, &listed.unwrap_or_default())
    }

    /// Decides from what was read.
    fn of(mounts: &[Mount], own: &BTreeMap<String, PathBuf>, v2_controllers: &str) -> Result<Self, CgroupError> {
        let own_of = |name: &str, root: &Path| {
            let path = own.get(name).map_or(Path::new("/"), PathBuf::as_path);
            // In a container the mount shows a part of the tree while /proc may tell the whole path.
            let below = path.strip_prefix(root).unwrap_or(path);
            below.strip_prefix("/").unwrap_or(below).to_path_buf()
        };
        let mut controllers = BTreeMap::new();
        for mount in mounts {
            for name in mount.controllers.iter().flatten() {
                let place = Place { mount: mount.point.clone(), own: own_of(name, &mount.root) };
                controllers.extend(Controller::from_v1(name).map(|controller| (controller, place)));
            }
        }
        if !controllers.is_empty() {
            return Ok(Self { version: Version::V1, controllers });
        }
        let Some(unified) = mounts.iter().find(|mount| mount.controllers.is_none()) else {
            return Err(CgroupError::None);
        };
        let place = Place { mount: unified.point.clone(), own: own_of("", &unified.root) };
        let listed = v2_controllers.split_whitespace().filter_map(Controller::from_v2);
        Ok(Self { version: Version::V2, controllers: listed.map(|controller| (controller, place.clone())).collect() })
    }

    /// Which interface.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the host has it.
    pub fn has(&self, controller: Controller) -> bool {
        self.controllers.contains_key(&controller)
    }

    /// Names a cgroup by its `linux.cgroupsPath`; touches nothing.
    pub fn group(&self, cgroups_path: &str) -> Result<Cgroup, CgroupError> {
        let path = path::parse(cgroups_path)?;
        let below = |place: &Place| match &path {
            CgroupPath::Absolute(path) => path.clone(),
            CgroupPath::Relative(path) => place.own.join(path),
        };
        let dirs =
            self.controllers.iter().map(|(controller, place)| (*controller, (place.mount.clone(), below(place))));
        Ok(Cgroup::new(self.version, dirs.collect()))
    }

    /// Controllers that v2 turns on for children.
    pub(super) fn v2_names() -> impl Iterator<Item = (Controller, &'static str)> {
        Controller::ALL
            .iter()
            .filter(|(controller, ..)| Controller::V2.contains(controller))
            .map(|(controller, _, v2)| (*controller, *v2))
    }
}

/// One line of mountinfo that is a cgroup hierarchy; `None`: v2.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    root: PathBuf,
    controllers: Option<Vec<String>>,
}

/// `36 35 98:0 /root /mount/point rw - cgroup cgroup rw,cpu,cpuacct`
fn mounts(mountinfo: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let controllers = match kind {
            "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
            "cgroup2" => None,
            _ => return None,
        };
        Some(Mount { point: unescape(point), root: unescape(root), controllers })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// Blank, tab, newline and backslash come as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_owned(), |text, (code, char)| text.replace(code, char)).into()
}

/// `4:memory:/a/b` for v1, `0::/a/b` for v2 (under the empty name).
fn own(proc_cgroup: &str) -> BTreeMap<String, PathBuf> {
    let mut own = BTreeMap::new();
    for line in proc_cgroup.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(names), Some(path)) = (parts.next(), parts.next()) {
            own.extend(names.split(',').map(|name| (name.to_owned(), PathBuf::from(path))));
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";

    #[test]
    fn a_hybrid_host_is_v1() {
        let own = own("4:memory:/agent\n3:cpu,cpuacct:/\n0::/x\n");
        let cgroups = Cgroups::of(&mounts(HYBRID), &own, "").expect("hierarchies");
        assert_eq!(cgroups.version(), Version::V1);
        let place = |mount: &str, own: &str| Place { mount: mount.into(), own: own.into() };
        let expected = [
            (Controller::Cpu, place("/sys/fs/cgroup/cpu,cpuacct", "")),
            (Controller::Cpuacct, place("/sys/fs/cgroup/cpu,cpuacct", "")),
            (Controller::Memory, place("/sys/fs/cgroup/memory", "agent")),
        ];
        assert_eq!(cgroups.controllers, BTreeMap::from(expected));
        assert!(!cgroups.has(Controller::Pids));
    }

    #[test]
    fn a_host_with_only_v2_is_v2_with_the_controllers_it_lists() {
        let mountinfo = "25 22 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let cgroups =
            Cgroups::of(&mounts(mountinfo), &own("0::/system.slice/samara.service\n"), "cpu memory misc").expect("v2");
        assert_eq!(cgroups.version(), Version::V2);
        assert_eq!(cgroups.controllers.keys().copied().collect::<Vec<_>>(), [Controller::Cpu, Controller::Memory]);
        assert_eq!(cgroups.controllers[&Controller::Cpu].own, Path::new("system.slice/samara.service"));
    }

    #[test]
    fn in_a_container_the_mounted_part_is_taken_off_the_own_path() {
        let mountinfo = "33 30 0:29 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let cgroups = Cgroups::of(&mounts(mountinfo), &own("4:memory:/docker/abc/agent\n"), "").expect("v1");
        assert_eq!(cgroups.controllers[&Controller::Memory].own, Path::new("agent"));
    }

    #[test]
    fn a_host_without_any_says_so() {
        assert!(matches!(Cgroups::of(&[], &BTreeMap::new(), ""), Err(CgroupError::None)));
    }

    #[test]
    fn blanks_in_mount_points_are_read() {
        let mountinfo = "33 30 0:29 / /sys/fs/c\\040g rw - cgroup cgroup rw,pids\nnonsense\n- \n";
        assert_eq!(mounts(mountinfo)[0].point, Path::new("/sys/fs/c g"));
    }
}
