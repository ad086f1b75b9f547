//! `sock_ops`: what becomes of a connection whose `connect` left a state on its socket, and of one that came from outside
//! without the agent.

use super::{maps, record};
use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    },
    macros::sock_ops,
    programs::SockOpsContext,
};

/// The kernel's number of the state TCP_CLOSE.
const CLOSED: u32 = 7;

#[sock_ops]
pub fn weft_sockops(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    // Most sockets of the machine end here, or have no state: those that no program cares about.
    if op != BPF_SOCK_OPS_TCP_CONNECT_CB
        && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_STATE_CB
        && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
    {
        return 1;
    }
    // SAFETY: a read of a context field.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return 1;
    }
    if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        // SAFETY: the context's socket, not null.
        if unsafe { record::arrived(&ctx, socket.cast()) } {
            follow(&ctx);
        }
        return 1;
    }
    // SAFETY: the context's socket, not null.
    let Some(state) = (unsafe { maps::state_of(socket.cast()) }) else {
        return 1;
    };
    match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB => {
            record::announce(&ctx, state);
            follow(&ctx);
        }
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => record::established(&ctx, state),
        BPF_SOCK_OPS_STATE_CB => {
            let (from, to) = (ctx.arg(0), ctx.arg(1));
            record::moved(&ctx, state, from, to);
            if to == CLOSED {
                record::closed(&ctx, state, from);
                // SAFETY: the context's socket, not null. The socket may connect again, as another connection.
                unsafe { maps::clear_state(socket.cast()) };
            }
        }
        _ => {}
    }
    1
}

/// Asks to be told of the connection's end. Without that it works and is merely not accounted. Round trips can be told as
/// well, but it costs each of them: live figures are asked for when somebody wants them (`agent/src/kernel/diag.rs`).
#[inline(always)]
fn follow(ctx: &SockOpsContext) {
    let _ = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}
