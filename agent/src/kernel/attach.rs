//! Attaching to the cgroup.

use super::{
    KernelError,
    object::{Loader, verified},
    pins::Pins,
    sys,
};
use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError, links::FdLink},
};
use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};

/// Attached to the cgroup, in this order: what a connection needs on its way stands before what sends it there.
const PROGRAMS: [&str; 6] = [
    "weft_sockops",
    "weft_release",
    "weft_getpeername4",
    "weft_getpeername6",
    "weft_connect4",
    "weft_connect6",
];

/// Attached to the kubelet's cgroup, where there is one.
const GUARDS: [&str; 2] = ["weft_guard4", "weft_guard6"];
/// Besides, where everything is guarded.
const GUARD_IN: &str = "weft_guard_in";

/// Whether every program has its pinned attachment.
pub(super) fn is_attached(pins: &Pins) -> bool {
    PROGRAMS.iter().all(|name| pins.links().join(name).exists())
}

/// Attaches every program, or replaces an earlier one.
pub(super) fn attach(loader: &mut Loader, pins: &Pins, cgroup: &Path) -> Result<(), KernelError> {
    attach_all(loader, pins, cgroup, &PROGRAMS)
}

/// Attaches what guards pods that are not classified, or replaces an earlier one; what is attached to another cgroup is let go.
pub(super) fn guard(loader: &mut Loader, pins: &Pins, kubepods: &Path, all: bool) -> Result<(), KernelError> {
    if !is_guarding(pins, kubepods) {
        unguard(pins)?;
    }
    attach_all(loader, pins, kubepods, &GUARDS)?;
    if !all {
        return super::pins::remove_link(&pins.links().join(GUARD_IN));
    }
    // Kernels before 6.15 do not tell such a program whose packet it is, and refuse it.
    if let Err(error) = attach_all(loader, pins, kubepods, &[GUARD_IN]) {
        tracing::warn!(%error, "pods that are not known yet can be reached: this takes a kernel from 6.15 on");
    }
    Ok(())
}

/// Whether both are attached to this cgroup. The id of a cgroup is its directory's inode.
pub(super) fn is_guarding(pins: &Pins, kubepods: &Path) -> bool {
    let wanted = std::fs::metadata(kubepods).ok().map(|dir| dir.ino());
    wanted.is_some()
        && GUARDS.iter().all(|name| {
            let link = sys::open_pin(&pins.links().join(name));
            link.and_then(|link| sys::link_cgroup(link.as_fd())).ok() == wanted
        })
}

/// Lets go of it.
pub(super) fn unguard(pins: &Pins) -> Result<(), KernelError> {
    let all = GUARDS.into_iter().chain([GUARD_IN]);
    all.into_iter().try_for_each(|name| super::pins::remove_link(&pins.links().join(name)))
}

fn attach_all(
    loader: &mut Loader,
    pins: &Pins,
    cgroup: &Path,
    names: &[&'static str],
) -> Result<(), KernelError> {
    let dir = File::open(cgroup).map_err(KernelError::file("open", cgroup))?;
    let mut object = loader.load(0)?;
    for &name in names {
        let pin = pins.links().join(name);
        let link = attach_one(&mut object, name, &dir, &pin)
            .map_err(|source| KernelError::Program { name, source })?;
        if let Some(link) = link {
            super::pins::remove_file(&pin)?;
            link.pin(&pin).map_err(|e| KernelError::file("pin", pin)(std::io::Error::other(e)))?;
        }
    }
    Ok(())
}

/// Loads one program. Answers its new link, or none when an earlier link has taken it over.
fn attach_one(
    object: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
    pin: &Path,
) -> Result<Option<FdLink>, ProgramError> {
    let program = object.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    match program {
        Program::SockOps(p) => {
            verified(|| p.load())?;
            if taken_over(pin, p.fd()?.as_fd()) {
                return Ok(None);
            }
            let id = p.attach(cgroup, CgroupAttachMode::Single)?;
            as_fd_link(p.take_link(id)?)
        }
        Program::CgroupSkb(p) => {
            verified(|| p.load())?;
            if taken_over(pin, p.fd()?.as_fd()) {
                return Ok(None);
            }
            let id = p.attach(cgroup, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single)?;
            as_fd_link(p.take_link(id)?)
        }
        Program::CgroupSock(p) => {
            verified(|| p.load())?;
            if taken_over(pin, p.fd()?.as_fd()) {
                return Ok(None);
            }
            let id = p.attach(cgroup, CgroupAttachMode::Single)?;
            as_fd_link(p.take_link(id)?)
        }
        Program::CgroupSockAddr(p) => {
            verified(|| p.load())?;
            if taken_over(pin, p.fd()?.as_fd()) {
                return Ok(None);
            }
            let id = p.attach(cgroup, CgroupAttachMode::Single)?;
            as_fd_link(p.take_link(id)?)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
    .map(Some)
}

fn as_fd_link<L: TryInto<FdLink>>(link: L) -> Result<FdLink, ProgramError> {
    // Kernels before 5.7 have no such links; `check` asks for a newer one.
    link.try_into().map_err(|_| ProgramError::UnexpectedProgramType)
}

/// Puts the program into the link that is pinned there. False when there is none, or its cgroup is gone.
fn taken_over(pin: &Path, program: std::os::fd::BorrowedFd<'_>) -> bool {
    sys::open_pin(pin).and_then(|link| sys::update_link(link.as_fd(), program)).is_ok()
}
