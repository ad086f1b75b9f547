//! Accepting connections from one listener.

use super::{Complaint, Lane, Permit, Serve, shortage::lacking};
use crate::{
    inbound,
    outbound::{self, Door},
    pods::{Application, Pod, listeners::Role},
};
use std::{io, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
};
use weft_io::lifecycle::drain::Watcher;
use weft_model::address::canonical;

/// The pause after an error that has nothing to do with the connection itself, such as too many open files.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A connection that a pod's listener took, not yet looked at.
pub struct Accepted {
    /// Whose listener it was.
    pub pod: Arc<Pod>,
    /// The connection.
    pub tcp: TcpStream,
    /// Who connects.
    pub client: SocketAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
    /// Its place among those that the agent carries.
    pub permit: Permit,
    /// Says when the agent leaves.
    pub drain: Watcher,
}

/// Accepts until the pod leaves or the drain begins.
pub async fn serve(lane: Rc<Lane>, serve: Serve, drain: Watcher) {
    let Serve { pod, role, listener } = serve;
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(pod = %pod.spec, role = role.as_str(), %error, "a listener cannot be used");
            return;
        }
    };
    // A listener that is closed by now says so when it accepts.
    let own = listener.local_addr().ok();
    let mut phase = drain.clone();
    let mut stop = pin!(async {
        tokio::select! {
            () = pod.left() => {}
            _ = phase.draining() => {}
        }
    });
    let complaint = Complaint::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(tcp, client)| Ok((tcp.local_addr()?, tcp, client))) {
            Ok((local, tcp, client)) => {
                if own.is_some_and(|own| leads_back(role, pod.application, local, own)) {
                    tracing::debug!(pod = %pod.spec, role = role.as_str(), %client, "somebody found a listener's address");
                    reset(tcp);
                    continue;
                }
                let Some(permit) = lane.shared.admission.enter() else {
                    lane.note_full(&pod.spec);
                    reset(tcp);
                    continue;
                };
                if role != Role::Hbone {
                    // Should this process die now, its peer must see a reset and not a clean end.
                    let _ = tcp.set_zero_linger();
                }
                let (client, local) = (canonical(client), with_scope(local));
                let accepted =
                    Accepted { pod: pod.clone(), tcp, client, local, permit, drain: drain.clone() };
                let lane = lane.clone();
                match role {
                    Role::Outbound => spawn_local(outbound::accept(lane, accepted)),
                    Role::Inbound => spawn_local(inbound::accept_plain(lane, accepted)),
                    Role::Hbone => spawn_local(inbound::accept_hbone(lane, accepted)),
                    Role::Connect => spawn_local(outbound::accept_asked(lane, accepted, Door::Connect)),
                    Role::Socks => spawn_local(outbound::accept_asked(lane, accepted, Door::Socks)),
                };
            }
            Err(error) if is_about_the_connection(&error) => {}
            Err(error) => {
                if lacking(&error).is_some() {
                    lane.note_shortage(&pod.spec, &error);
                } else {
                    lane.shared.telemetry.metrics.accept_failed("other");
                    if complaint.due().is_some() {
                        tracing::error!(pod = %pod.spec, role = role.as_str(), %error, "cannot accept connections, they wait");
                    }
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Whether a connection was made to the listener's own address and port (root in the pod may give itself that address),
/// where no application can be: to deliver it would lead back here, and from here again, until no place is left. Captured
/// ones are told apart by their record.
fn leads_back(role: Role, application: Application, local: SocketAddr, own: SocketAddr) -> bool {
    application == Application::InPod && matches!(role, Role::Inbound | Role::Hbone) && local == own
}

/// An accepted socket's own address in canonical form. A link-local one keeps its scope: nobody reaches it without.
fn with_scope(local: SocketAddr) -> SocketAddr {
    match local {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => local,
        _ => canonical(local),
    }
}

/// Closes `tcp` so that the peer sees a reset, never a clean end.
pub fn reset(tcp: TcpStream) {
    // Where it fails, the peer has reset the connection before us.
    let _ = tcp.set_zero_linger();
}

/// The client was faster to leave than we to accept.
fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_delivered_to_a_listener_of_the_agent() {
        let [own, other] = ["[::ffff:192.0.2.64]:4", "[::ffff:10.0.0.2]:4"].map(|at| at.parse().unwrap());
        for role in [Role::Inbound, Role::Hbone] {
            assert!(leads_back(role, Application::InPod, own, own));
            assert!(!leads_back(role, Application::InPod, other, own), "that port is the application's");
        }
        assert!(!leads_back(Role::Outbound, Application::InPod, own, own), "its record tells");
        let explicit = Application::At("127.0.0.1".parse().unwrap());
        assert!(!leads_back(Role::Hbone, explicit, own, own), "reached by its own port, as it should be");
    }
}
