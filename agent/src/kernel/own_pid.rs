//! The number that this process has for kernel programs: that of the initial PID namespace. In a namespace of its own, as that of
//! a node which is itself a container, nothing in /proc tells it; a program that the process runs on itself does.
#![allow(unsafe_code)]

use super::sys::bpf;
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
/// BPF_PROG_TYPE_RAW_TRACEPOINT: may ask who runs it, and may be run by hand.
const RAW_TRACEPOINT: u32 = 17;
/// BPF_FUNC_get_current_pid_tgid.
const WHO: i32 = 14;
/// The kernel asks for it; the one helper is not reserved to GPL code.
static LICENSE: &[u8; 11] = b"Apache-2.0\0";

/// `struct bpf_insn`.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `r0 = who(); r0 >>= 32; return r0`: the upper half is the thread group.
static PROGRAM: [Instruction; 3] = [
    Instruction { code: 0x85, registers: 0, offset: 0, immediate: WHO },
    Instruction { code: 0x77, registers: 0, offset: 0, immediate: 32 },
    Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
];

/// The members of `union bpf_attr` that BPF_PROG_LOAD reads here.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The members of `union bpf_attr` that BPF_PROG_TEST_RUN reads and writes here.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    answer: u32,
    /// Sizes, pointers and counts of what the program is given: nothing.
    rest: [u32; 16],
}

/// This process's number in the initial PID namespace.
pub(super) fn own_pid() -> io::Result<u32> {
    let mut load = Load {
        kind: RAW_TRACEPOINT,
        count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
    };
    // SAFETY: the layout is BPF_PROG_LOAD's, and what it points to lives for ever.
    let fd = unsafe { bpf(PROG_LOAD, &mut load) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut run = Run { program: program.as_raw_fd() as u32, ..Run::default() };
    // SAFETY: the layout is BPF_PROG_TEST_RUN's; all pointers in it are null, and it is ours to be written to.
    unsafe { bpf(PROG_TEST_RUN, &mut run) }?;
    Ok(run.answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_initial_namespace_says() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to load a program");
            return;
        }
        let own = own_pid().unwrap();
        assert_eq!(own, own_pid().unwrap());
        // As far as can be told from inside: PID namespaces have this inode only where they are the initial one.
        if std::fs::read_link("/proc/self/ns/pid").unwrap().to_str() == Some("pid:[4026531836]") {
            assert_eq!(own, std::process::id());
        }
    }
}
