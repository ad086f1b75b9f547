//! Connections that the kernel joined, between two pods of this node or from outside to one, and that the policies no longer
//! allow, or that are to be encrypted by now.

use super::authorize::authorize;
use crate::{
    kernel::{Flow, Verdict},
    pods::{Netns, Pod},
    sock_diag::SockDiag,
};
use rustc_hash::FxHashMap;
use std::{io, net::SocketAddr, sync::Arc};
use weft_model::Snapshot;

/// Cuts those of `flows` that `snapshot` would refuse now; answers how many that were. `pods` are the enrolled ones, by
/// the cookie of their network namespace.
pub fn cut_refused(snapshot: &Snapshot, flows: &[Flow], pods: &FxHashMap<u64, Arc<Pod>>) -> usize {
    flows.iter().filter(|flow| refused(snapshot, flow, pods).is_some_and(cut)).count()
}

/// A connection to be cut.
struct Refused<'a> {
    /// The client's pod; none for one from outside.
    from: Option<&'a Pod>,
    to: &'a Pod,
    /// The cookie of the socket that told of it: the client's, or where that is not here the server's.
    socket: u64,
    client: SocketAddr,
    server: SocketAddr,
}

/// `None` for a connection that is not direct, or still allowed.
fn refused<'a>(snapshot: &Snapshot, flow: &Flow, pods: &'a FxHashMap<u64, Arc<Pod>>) -> Option<Refused<'a>> {
    let from = match flow.verdict {
        Verdict::Direct => Some(&**pods.get(&flow.source)?),
        Verdict::Plain => None,
        _ => return None,
    };
    let (to, client) = (pods.get(&flow.destination?).filter(|_| flow.established)?, flow.client?);
    let server = flow.backend.unwrap_or(flow.original);
    let identity = match from {
        Some(pod) => Some(pod.workload(snapshot)?.identity()),
        None => None,
    };
    let destination = to.workload(snapshot)?;
    let verdict = authorize(snapshot, destination, identity.as_ref(), client.ip(), server);
    let bare = from.is_some_and(|from| {
        destination.always_encrypt || from.workload(snapshot).is_some_and(|w| w.always_encrypt)
    });
    (bare || !verdict.is_allowed()).then_some(Refused { from, to, socket: flow.socket, client, server })
}

/// Destroys the server's socket, so that the client sees the same reset as it would of a connection through the agent; or
/// the client's, where the server's is gone or not yet there.
fn cut(refused: Refused<'_>) -> bool {
    let Refused { from, to, socket, client, server } = refused;
    let inside = |netns: &Netns| netns.enter(SockDiag::open);
    let done = || -> io::Result<bool> {
        let diag = inside(&to.netns)?;
        let Some(from) = from else { return diag.destroy(server, client, socket) };
        if let Some(cookie) = diag.find(server, client)?
            && diag.destroy(server, client, cookie)?
        {
            return Ok(true);
        }
        inside(&from.netns)?.destroy(client, server, socket)
    };
    done().unwrap_or_else(|error| {
        tracing::error!(to = %to.spec, %client, %server, %error,
            "a connection that the policies no longer allow cannot be cut");
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::PodSpec;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_that_is_gone_by_now_does_not_take_the_listener_with_it() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to destroy a socket");
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let spec = PodSpec::new("shop", "web-0", "/proc/self/ns/net");
        let pod = Pod::explicit(spec, "web-0".into(), server.ip()).unwrap();
        let client = "127.0.0.1:1".parse().unwrap();
        assert!(!cut(Refused { from: Some(&pod), to: &pod, socket: 1, client, server }));
        TcpStream::connect(server).unwrap();
    }
}
