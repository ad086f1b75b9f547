//! Enrolling a pod: its own copy of `sk_lookup`, the agent's listeners, and then the entry that makes `connect` see it.

use super::{
    Kernel, KernelError,
    diag::Diag,
    maps::Raw,
    object::{Loader, verified},
    pins::{self, Pins},
    sys,
};
use aya::{
    maps::MapError,
    programs::{SkLookup, links::FdLink},
};
use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::PoisonError,
};
use weft_ebpf_abi::{LISTENER_SLOTS, ListenerKey, Workload, listener, workload};

/// How a pod wants to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnrolmentFlags {
    /// Nothing goes direct from here, also not to a pod on the same node.
    pub always_encrypt: bool,
}

/// What the kernel must know of a pod, and of the agent's listeners in it.
///
/// The listeners are dual-stack TCP sockets in the pod's namespace, on any port: `sk_lookup` finds them by role, and gives
/// them connections in turn. One that is closed is passed over. One listener may serve several roles.
#[derive(Clone, Debug)]
pub struct Enrolment<'a> {
    /// The namespace.
    pub netns: BorrowedFd<'a>,
    /// Its cookie.
    pub cookie: u64,
    /// The pod's addresses; the first of each family is where captured connections are sent.
    pub addresses: &'a [IpAddr],
    /// Listeners for captured outbound connections.
    pub outbound: &'a [BorrowedFd<'a>],
    /// Listeners for plaintext inbound connections.
    pub inbound: &'a [BorrowedFd<'a>],
    /// Listeners for HBONE (port 15008).
    pub hbone: &'a [BorrowedFd<'a>],
    /// How it wants to be treated.
    pub flags: EnrolmentFlags,
}

/// A listener as aya's maps want it.
struct Listener<'a>(BorrowedFd<'a>);

impl AsRawFd for Listener<'_> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Kernel {
    /// Enrols a pod, or brings an enrolled one up to date (new listeners take over at once). From its return on, every
    /// connection to and from the pod is judged.
    pub fn enrol(&mut self, pod: &Enrolment<'_>) -> Result<(), KernelError> {
        let roles = [
            (listener::OUTBOUND, pod.outbound),
            (listener::INBOUND, pod.inbound),
            (listener::HBONE, pod.hbone),
        ];
        for (role, sockets) in roles {
            self.set_listeners(pod.cookie, role, sockets)?;
        }
        self.attach_lookup(pod)?;
        let diag = Diag::open(pod.netns)?;
        self.diags.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.cookie, diag);
        self.workloads.put(pod.cookie, entry(pod))?;
        self.changed()
    }

    /// Lets a pod go: its connections are its own again. Not an error for one that is not enrolled.
    pub fn leave(&mut self, cookie: u64) -> Result<(), KernelError> {
        self.workloads.delete(cookie)?;
        self.reconciler.forget(cookie)?;
        self.changed()?;
        self.diags.lock().unwrap_or_else(PoisonError::into_inner).remove(&cookie);
        pins::remove_link(&self.pins.pod(cookie))?;
        for role in [listener::OUTBOUND, listener::INBOUND, listener::HBONE] {
            self.set_listeners(cookie, role, &[])?;
        }
        Ok(())
    }

    /// Whether the pod is enrolled, by this agent or an earlier one.
    pub fn is_enrolled(&self, cookie: u64) -> bool {
        self.workloads.get(cookie).is_some()
    }

    /// The cookies of the pods that are enrolled, also those that an earlier agent enrolled.
    pub fn enrolled(&self) -> Result<Vec<u64>, KernelError> {
        let mut cookies: Vec<u64> = self.workloads.entries().map(|(cookie, _)| cookie).collect();
        let pinned = pins::list(&self.pins.pods())?;
        cookies.extend(pinned.iter().filter_map(|p| p.file_name()?.to_str()?.parse::<u64>().ok()));
        cookies.sort_unstable();
        cookies.dedup();
        Ok(cookies)
    }

    fn set_listeners(&mut self, cookie: u64, role: u32, given: &[BorrowedFd<'_>]) -> Result<(), KernelError> {
        if given.len() > LISTENER_SLOTS as usize {
            return Err(KernelError::TooManyListeners { given: given.len() });
        }
        let mut sockets = given.iter();
        for slot in 0..LISTENER_SLOTS {
            let key = Raw(ListenerKey { cookie, role, slot });
            match sockets.next() {
                Some(fd) => {
                    // First of all: what it accepts from here on is not taken for the application's.
                    self.ours.insert(&Listener(*fd), 1, 0).map_err(KernelError::map("OURS"))?;
                    self.listeners.insert(key, Listener(*fd), 0).map_err(KernelError::map("LISTENERS"))?;
                }
                None => match self.listeners.remove(&key) {
                    Ok(()) | Err(MapError::KeyNotFound | MapError::SyscallError(_)) => {}
                    Err(source) => return Err(KernelError::Map { name: "LISTENERS", source }),
                },
            }
        }
        Ok(())
    }

    /// Attaches the pod's own copy of `sk_lookup`, or puts it in the place of an earlier agent's.
    fn attach_lookup(&mut self, pod: &Enrolment<'_>) -> Result<(), KernelError> {
        let pin = self.pins.pod(pod.cookie);
        if self.current && pin.exists() {
            return Ok(());
        }
        let link = attach_lookup(&mut self.loader, &self.pins, pod)?;
        if let Some(link) = link {
            pins::remove_file(&pin)?;
            link.pin(&pin).map_err(|e| KernelError::file("pin", pin)(std::io::Error::other(e)))?;
        }
        Ok(())
    }
}

/// The new link, or none when an earlier one took the program over.
fn attach_lookup(
    loader: &mut Loader,
    pins: &Pins,
    pod: &Enrolment<'_>,
) -> Result<Option<FdLink>, KernelError> {
    const NAME: &str = "weft_lookup";
    let failed = |source| KernelError::Program { name: NAME, source };
    let mut object = loader.load(pod.cookie)?;
    let program = object.program_mut(NAME).ok_or(failed(aya::programs::ProgramError::NotLoaded))?;
    let program: &mut SkLookup = program.try_into().map_err(failed)?;
    verified(|| program.load()).map_err(failed)?;
    if let Ok(link) = sys::open_pin(&pins.pod(pod.cookie)) {
        let fd = program.fd().map_err(failed)?;
        if sys::update_link(link.as_fd(), fd.as_fd()).is_ok() {
            return Ok(None);
        }
    }
    let id = program.attach(pod.netns).map_err(failed)?;
    Ok(Some(program.take_link(id).map_err(failed)?.into()))
}

fn entry(pod: &Enrolment<'_>) -> Workload {
    let mut entry = Workload::default();
    for ip in pod.addresses {
        match ip.to_canonical() {
            IpAddr::V4(v4) if entry.flags & workload::HAS_V4 == 0 => {
                entry.v4 = u32::from_ne_bytes(v4.octets());
                entry.flags |= workload::HAS_V4;
            }
            IpAddr::V6(v6) if entry.flags & workload::HAS_V6 == 0 => {
                entry.v6 = IpAddr::V6(v6).into();
                entry.flags |= workload::HAS_V6;
            }
            _ => {}
        }
    }
    if pod.flags.always_encrypt {
        entry.flags |= workload::ALWAYS_ENCRYPT;
    }
    let most = [pod.outbound, pod.inbound, pod.hbone].map(<[_]>::len).into_iter().max().unwrap_or(0);
    // `set_listeners` has seen to it that these are few.
    entry.listeners = most.min(LISTENER_SLOTS as usize) as u32;
    entry
}
