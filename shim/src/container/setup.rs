//! The order of the set-up, and what is there when it is done.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use samara_runtime::{CodeFile, Exit, Host, OnListen, Program, Stop, World};

use super::control::serve::Life;
use super::files::Files;
use super::seccomp::Filter;
use super::{SetUpError, cgroups, filesystem, guest, identity, landlock, namespaces};
use crate::plan::ContainerPlan;
use crate::zygote::Warm;

/// A container that is set up and waits for `start`.
#[derive(Debug)]
pub struct Ready {
    program: Program,
    world: World,
    stop: Stop,
    life: Arc<Life>,
    /// There is a control thread that will say when to start.
    controlled: bool,
}

impl Ready {
    /// Waits for `start`, then is the guest until its end.
    pub fn live(self, host: &Host) -> Exit {
        if self.controlled {
            self.life.wait_for_start();
        }
        let exit = self.program.run(host, self.world, self.stop);
        self.life.ended(exit.code, exit.oom);
        exit
    }
}

/// Carries a plan out, step by step; see the module's drawing.
pub(super) fn set_up(warm: &Warm, plan: &OwnedFd, files: Vec<OwnedFd>) -> Result<Ready, SetUpError> {
    let plan = ContainerPlan::read(plan)?;
    let mut files = Files::new(files);
    let mut warnings = Vec::new();

    name_process(&plan.title);
    cgroups::enter(&plan.cgroups, &files)?;
    let opened = identity::Opened::new(&plan.identity)?;
    // By its name in /proc, which an exec's mount namespace does not have.
    let code = CodeFile::from_verified(files.take(plan.code, "the code")?);
    let program = warm.host.load(code)?;
    namespaces::enter(&plan, &files)?;
    if let Some(filesystem) = &plan.filesystem {
        filesystem::assemble(filesystem, &files)?;
    }
    if let Some(filesystem) = &plan.filesystem {
        filesystem::move_in(filesystem, &files)?;
    }
    if plan.stdio.terminal
        && let Some(terminal) = plan.stdio.stdin
    {
        let terminal = files.get(terminal, "the terminal")?;
        rustix::process::ioctl_tiocsctty(terminal).map_err(|errno| SetUpError::Terminal(errno.into()))?;
    }
    let control = match plan.control {
        Some(fd) => Some(files.take(fd, "the control socket")?),
        None => None,
    };
    let master = match plan.stdio.master {
        Some(fd) => Some(files.take(fd, "the terminal's other end")?),
        None => None,
    };
    let (mut world, streams) = guest::world(plan.guest, &plan.stdio, &mut files)?;
    let profile = plan.identity.seccomp.as_ref().map(Filter::from_profile).transpose()?;
    // Namespaces, mounts and cgroups are in no reach of the guest from here on.
    drop(files);

    identity::assume(&plan.identity, opened, &mut warnings)?;
    landlock::restrict(&mut warnings)?;
    warm.filter.apply()?;
    // Last: it may forbid what applying a filter takes.
    if let Some(profile) = profile {
        profile.apply()?;
    }

    let (handle, stop) = Stop::new();
    let life = Life::new(handle, streams, master, warnings);
    let controlled = control.is_some();
    if let Some(control) = control {
        life.serve(control).map_err(SetUpError::Control)?;
    }
    let teller = Arc::clone(&life);
    world.on_listen = Some(OnListen::new(move |address| teller.listening(address)));
    Ok(Ready { program, world, stop, life, controlled })
}

/// A name with a NUL in it, or longer than the kernel keeps, is cut.
fn name_process(title: &str) {
    let until_nul = title.bytes().take_while(|byte| *byte != 0).collect::<Vec<u8>>();
    if let Ok(name) = CString::new(until_nul) {
        // A wrong name in `ps` is no reason to end.
        let _ = rustix::thread::set_name(&name);
    }
}
