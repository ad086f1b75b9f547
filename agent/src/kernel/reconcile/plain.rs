//! Who may reach a pod from outside without a tunnel, decided beforehand. Such a client has no identity, only an address:
//! where no policy looks at addresses, the port alone decides, and the kernel lets in what is allowed. Refusals stay the
//! agent's, which resets them and tells why.

use super::{local::Local, pairs};
use rustc_hash::FxHashMap;
use weft_ebpf_abi::{PlainKey, plain};
use weft_model::{Snapshot, decide::inbound, policy::Connection};

/// Adds the answers for connections to `to`: none where the agent has to look at each.
pub(super) fn of(snapshot: &Snapshot, to: &Local<'_>, answers: &mut FxHashMap<PlainKey, u32>) {
    let policies = pairs::policies(snapshot, to);
    let addresses = pairs::matches(&policies).any(|m| {
        [&m.source_ips, &m.not_source_ips, &m.destination_ips, &m.not_destination_ips]
            .into_iter()
            .any(|list| !list.is_empty())
    });
    let Some(ip) = to.workload.addresses.first().copied().filter(|_| !addresses) else { return };
    let answer = |destination_port: u16| {
        let connection = Connection { identity: None, source_ip: ip, destination_ip: ip, destination_port };
        match inbound(snapshot, to.workload, &connection).is_allowed() {
            true => plain::ALLOW,
            false => plain::AGENT,
        }
    };
    let mut put = |port, value| answers.insert(PlainKey { cookie: to.pod.cookie, port, pad: 0 }, value);
    let ports = pairs::ports(&policies);
    let usual = answer(pairs::other(&ports));
    if usual == plain::ALLOW {
        put(0, usual);
    }
    for port in ports {
        let special = answer(port);
        if special != usual {
            put(u32::from(port), special);
        }
    }
}
