//! Pods that lost their network: an interface that vanished, or addresses that did. Their applications get errors from the
//! kernel before any connection reaches the agent, so it looks by itself.

use super::{Application, Netns, Pod, sockets};
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use weft_model::Snapshot;

/// How often it looks: each time costs a socket for each address.
const PAUSE: Duration = Duration::from_secs(5);

/// Which pods lost which address, so that each loss is told once.
#[derive(Debug, Default)]
pub struct Connected {
    lost: BTreeSet<(String, IpAddr)>,
    looked: Option<Instant>,
}

impl Connected {
    /// Looks, unless it did a moment ago, and tells what was lost and what came back since.
    pub fn look<'p>(&mut self, pods: impl Iterator<Item = &'p Arc<Pod>>, snapshot: &Snapshot) {
        if self.looked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.looked = Some(Instant::now());
        let lost = pods
            .filter(|pod| pod.application == Application::InPod)
            .filter_map(|pod| Some((pod, pod.workload(snapshot)?)))
            .flat_map(|(pod, workload)| workload.addresses.iter().map(move |ip| (pod, *ip)))
            .filter(|(pod, ip)| is_lost(&pod.netns, *ip))
            .map(|(pod, ip)| (pod.spec.to_string(), ip))
            .collect();
        for (pod, address) in self.tell(lost) {
            tracing::error!(%pod, %address, "the pod has lost this address: its interface is gone or was changed, and connections \
                from and to it fail until its network is set up again; see `ip address` in the pod and the log of the CNI \
                plugin, or delete the pod so that another takes its place");
        }
    }

    /// Takes what is lost by now; gives what was not before.
    fn tell(&mut self, lost: BTreeSet<(String, IpAddr)>) -> Vec<(String, IpAddr)> {
        let before = std::mem::replace(&mut self.lost, lost);
        for (pod, address) in before.difference(&self.lost) {
            tracing::info!(%pod, %address, "the pod has its address again, or left");
        }
        self.lost.difference(&before).cloned().collect()
    }
}

/// Whether the namespace has no interface with this address.
fn is_lost(netns: &Netns, ip: IpAddr) -> bool {
    let at = SocketAddr::new(ip, 0);
    let bound = sockets::open(netns, at).and_then(|socket| sockets::bind_address(&socket, ip));
    bound.is_err_and(|error: io::Error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_there_is_not_lost() {
        let own = Netns::own().unwrap();
        assert!(!is_lost(&own, "127.0.0.1".parse().unwrap()));
        // TEST-NET-1 (RFC 5737) is nobody's.
        assert!(is_lost(&own, "192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn each_loss_is_told_once() {
        let loss = |pod: &str| (pod.to_owned(), "192.0.2.1".parse().unwrap());
        let mut connected = Connected::default();
        assert_eq!(connected.tell([loss("a")].into()), [loss("a")]);
        assert_eq!(connected.tell([loss("a"), loss("b")].into()), [loss("b")]);
        assert_eq!(connected.tell([loss("b")].into()), []);
        assert_eq!(connected.tell([loss("a"), loss("b")].into()), [loss("a")]);
    }
}
