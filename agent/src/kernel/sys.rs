//! The few system calls that aya does not offer.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// The members of `union bpf_attr` that BPF_LINK_UPDATE reads.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// The members of `union bpf_attr` that BPF_OBJ_GET reads.
#[repr(C)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The members of `union bpf_attr` that BPF_OBJ_GET_INFO_BY_FD reads.
#[repr(C)]
struct InfoGet {
    fd: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info` of a link to a cgroup, with room for what later kernels say besides.
#[repr(C)]
#[derive(Default)]
struct CgroupLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    cgroup: u64,
    rest: [u64; 8],
}

/// The members of `union bpf_attr` that BPF_PROG_QUERY reads and writes.
#[repr(C)]
#[derive(Default)]
struct ProgramQuery {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    rest: [u64; 4],
}

/// # Safety
/// `attr` is what the kernel expects for `command`, and what it points to stays alive for the call.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads, and at most writes, `size_of::<T>()` bytes of `attr`; the rest is the caller's promise.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectGet { path: name.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the layout is BPF_OBJ_GET's, and `name` outlives the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `program` in the place of the link's program, in one step.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let [link, program] = [link, program].map(|fd| fd.as_raw_fd() as u32);
    let mut attr = LinkUpdate { link, program, flags: 0, old_program: 0 };
    // SAFETY: the layout is BPF_LINK_UPDATE's; it holds no pointers.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link's program, at once. (The kernel does so by itself some time after the link's last user is gone.)
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = link.as_raw_fd() as u32;
    // SAFETY: BPF_LINK_DETACH reads one descriptor.
    unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(drop)
}

/// The id of the cgroup that a link is attached to; 0 when that is gone.
pub(super) fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = CgroupLinkInfo::default();
    let length = size_of::<CgroupLinkInfo>() as u32;
    let fd = link.as_raw_fd() as u32;
    let mut attr = InfoGet { fd, length, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: the layout is BPF_OBJ_GET_INFO_BY_FD's; `info` outlives the call, and the kernel writes at most `length` bytes.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info.cgroup)
}

/// The ids of the programs that are attached to a cgroup itself, and whether they are so in a way that lets no others beside or
/// below them.
pub(super) fn attached(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<(Vec<u32>, bool)> {
    /// What lets others attach as well: BPF_F_ALLOW_OVERRIDE, BPF_F_ALLOW_MULTI.
    const SHARED: u32 = 1 | 2;
    let mut ids = [0_u32; 64];
    let target = cgroup.as_raw_fd() as u32;
    let (programs, count) = (ids.as_mut_ptr() as u64, ids.len() as u32);
    let mut attr = ProgramQuery { target, attach_type, programs, count, ..ProgramQuery::default() };
    // SAFETY: the layout is BPF_PROG_QUERY's; `ids` outlives the call, and the kernel writes at most `count` of them.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    let ids: Vec<u32> = ids.into_iter().take(attr.count as usize).collect();
    let alone = !ids.is_empty() && attr.attach_flags & SHARED == 0;
    Ok((ids, alone))
}

/// The cookie of the network namespace that `socket` belongs to.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `cookie`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &mut size,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}
