//! Program entries, one hook a file. An entry reads its context, asks the crate's pure decisions, and writes the answer.
#![allow(unsafe_code)]

mod connect;
mod getpeername;
mod guard;
mod log;
mod lookup;
mod maps;
mod record;
mod release;
mod sockops;
mod storage;

use aya_ebpf::bindings::bpf_sock_addr;
use weft_ebpf_abi::{Addr, Endpoint};

/// Lets the call, or the packet, go on.
const PASS: i32 = 1;

/// IPPROTO_TCP.
const TCP: u32 = 6;

/// An address of a context that has it twice, by family. Both are read, whatever the family: the verifier wants every
/// field at its own fixed offset, and a volatile read keeps the compiler from choosing between offsets instead.
///
/// # Safety
/// Both are fields of a running program's context, readable whatever the family.
#[inline(always)]
unsafe fn address(v4: *const u32, v6: *const [u32; 4], is_v4: bool) -> Addr {
    // SAFETY: the caller's promise; the fields are aligned.
    let (v4, v6) = unsafe {
        let word = |i| v6.cast::<u32>().add(i).read_volatile();
        (v4.read_volatile(), [word(0), word(1), word(2), word(3)])
    };
    if is_v4 { Addr::v4(v4) } else { Addr { words: v6 } }
}

/// The address and port that a socket call names.
///
/// # Safety
/// `ctx` is the context of a running cgroup socket address program of that family.
#[inline(always)]
unsafe fn named(ctx: *const bpf_sock_addr, v4: bool) -> Endpoint {
    // SAFETY: the verifier allows these fields in every such program.
    unsafe {
        let port = u16::from_be((*ctx).user_port as u16);
        let addr = if v4 { Addr::v4((*ctx).user_ip4) } else { Addr { words: (*ctx).user_ip6 } };
        Endpoint::new(addr, port)
    }
}

/// Replaces the address and port that a socket call names. An IPv6 socket gets an IPv4 address in its mapped form.
///
/// # Safety
/// As for [`named`]; with `v4`, `to` stands for an IPv4 address.
#[inline(always)]
unsafe fn rename(ctx: *mut bpf_sock_addr, v4: bool, to: &Endpoint) {
    // SAFETY: the verifier allows these fields to be written in connect and getpeername programs.
    unsafe {
        if v4 {
            (*ctx).user_ip4 = to.addr.words[3];
        } else {
            (*ctx).user_ip6 = to.addr.words;
        }
        (*ctx).user_port = u32::from(to.port.to_be());
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel asks for it; the programs use no helper that is reserved to GPL code.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
