//! `sock_release`: an application lets go of a socket. What the connection does next it does on its own account: an end without
//! both FINs is then a reset by this side, and without this it is one by the other.

use super::{PASS, maps};
use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

#[cgroup_sock(sock_release)]
pub fn weft_release(ctx: SockContext) -> i32 {
    // SAFETY: the context of such a program is the socket.
    if let Some(state) = unsafe { maps::state_of(ctx.sock.cast()) } {
        state.released = 1;
    }
    PASS
}
