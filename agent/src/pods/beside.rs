//! What else wants a pod's connections: another mesh's sidecar, or rules that send them elsewhere. Two that both carry them get
//! in each other's way, so it is said.

use super::{Netns, Pod};
use crate::sock_diag::{SockDiag, attribute, state, u16_at, u32_at};
use rustc_hash::FxHashSet;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often it looks: a sidecar comes some time after its pod.
const PAUSE: Duration = Duration::from_secs(30);

// Numbers of linux/netlink.h and linux/netfilter/nf_tables.h.
const NLMSG_DONE: u16 = 3;
const NFT_GET_CHAIN: u16 = 10 << 8 | 4;
const NFT_NEW_CHAIN: u16 = 10 << 8 | 3;
const CHAIN_NAME: u16 = 3;
const HEADER: usize = 16;
/// Datagrams of chains that are read.
const MOST_ANSWERS: usize = 64;

/// What is found beside the mesh, by pod.
#[derive(Debug, Default)]
pub struct Beside {
    told: BTreeMap<String, String>,
    /// When which namespace was looked at.
    looked: BTreeMap<u64, Instant>,
}

impl Beside {
    /// Looks at the pods at which it did not look a moment ago, and tells what is new. What is there by pod.
    pub fn look<'p>(&mut self, pods: impl Iterator<Item = &'p Arc<Pod>>) -> &BTreeMap<String, String> {
        let (mut told, mut looked) = (BTreeMap::new(), BTreeMap::new());
        for pod in pods {
            let (name, cookie) = (pod.spec.to_string(), pod.cookie());
            let before = self.told.remove(&name);
            let recently = self.looked.get(&cookie).filter(|at| at.elapsed() < PAUSE);
            looked.insert(cookie, recently.copied().unwrap_or_else(Instant::now));
            let now = if recently.is_some() { before.clone() } else { of(&pod.netns) };
            if let Some(what) = now {
                if before.as_ref() != Some(&what) {
                    tracing::warn!(pod = %pod.spec, "{what}");
                }
                told.insert(name, what);
            }
        }
        (self.told, self.looked) = (told, looked);
        &self.told
    }
}

/// What is in the way of a pod's connections, and what to do.
fn of(netns: &Netns) -> Option<String> {
    let looked = netns.enter(|| {
        let mut ports = FxHashSet::default();
        SockDiag::open()?.each(state::only(&[state::LISTEN]), 0, &[], |found| {
            ports.insert(found.local.port());
        })?;
        // Both tell of rules: that one of them is not there, or may not be read, says nothing about the other.
        let tables = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];
        let legacy = tables.map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
        Ok((ports, chains().unwrap_or_default(), legacy.lines().any(|table| table == "nat")))
    });
    let (ports, chains, legacy) = looked.ok()?;
    judge(&ports, &chains, legacy)
}

fn judge(ports: &FxHashSet<u16>, chains: &[String], legacy: bool) -> Option<String> {
    let has = |prefix: &str| chains.iter().any(|name| name.starts_with(prefix));
    let whose = [
        ("Istio", "ISTIO_", [15001, 15006], "sidecar.istio.io/inject: \"false\""),
        ("Linkerd", "PROXY_INIT_", [4140, 4143], "linkerd.io/inject: disabled"),
        ("Kuma", "KUMA_MESH_", [15001, 15006], "kuma.io/sidecar-injection: disabled"),
    ];
    for (mesh, prefix, listens, mend) in whose {
        let rules = has(prefix);
        // Kuma's proxy listens where Istio's does: its rules tell.
        if rules || mesh != "Kuma" && !has("KUMA_MESH_") && listens.iter().all(|port| ports.contains(port)) {
            let what = if rules { "iptables rules" } else { "proxy" };
            return Some(format!(
                "the pod has the {what} of {mesh}'s sidecar besides: connections may go through both or fail; set `{mend}` on it and \
                 restart it, or take it out of this mesh by weft.dev/mesh=disabled"
            ));
        }
    }
    if ports.contains(&15008) {
        return Some("something in the pod listens at port 15008, which tunnels of the mesh take: nobody reaches it; give it another \
             port".to_owned());
    }
    legacy.then(|| {
        "the pod has NAT rules of its own (iptables-legacy): if they lead its connections to a proxy, they may go through both or \
         fail; see `iptables-legacy -t nat -S` in it"
            .to_owned()
    })
}

/// The names of all chains of nftables, where `iptables-nft` keeps its rules as well, in the thread's network namespace.
fn chains() -> io::Result<Vec<String>> {
    let kind = Some(Protocol::from(libc::NETLINK_NETFILTER));
    let netlink = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, kind)?;
    netlink.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = Vec::with_capacity(HEADER + 4);
    request.extend((HEADER as u32 + 4).to_ne_bytes());
    request.extend(NFT_GET_CHAIN.to_ne_bytes());
    request.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    // Sequence number and port, then `nfgenmsg`: every family.
    request.extend([0; 12]);
    netlink.send(&request)?;
    let (mut names, mut answer) = (Vec::new(), vec![0; 65_536]);
    for _ in 0..MOST_ANSWERS {
        let length = (&netlink).read(&mut answer)?;
        if length == 0 || read(&answer[..length], &mut names) {
            break;
        }
    }
    Ok(names)
}

/// Reads one datagram; true when it ends the answer, be it by an error.
fn read(mut bytes: &[u8], names: &mut Vec<String>) -> bool {
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0).unwrap_or(0) as usize;
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= HEADER) else {
            return true;
        };
        match u16_at(message, 4) {
            Some(NFT_NEW_CHAIN) => {
                let name = message.get(HEADER + 4..).and_then(|attributes| attribute(attributes, CHAIN_NAME));
                names
                    .extend(name.map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()));
            }
            Some(kind) if kind <= NLMSG_DONE => return true,
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_are_told_by_their_rules_or_their_listeners() {
        let judge = |ports: &[u16], chains: &[&str], legacy| {
            let chains: Vec<_> = chains.iter().map(|name| (*name).to_owned()).collect();
            judge(&ports.iter().copied().collect(), &chains, legacy).unwrap_or_default()
        };
        assert_eq!(judge(&[80, 15001], &["INPUT", "OUTPUT"], false), "");
        for (ports, chains, told) in [
            (&[][..], &["ISTIO_OUTPUT"][..], "iptables rules of Istio's"),
            (&[15001, 15006], &[], "proxy of Istio's"),
            (&[4140, 4143], &[], "proxy of Linkerd's"),
            (&[], &["PROXY_INIT_REDIRECT"], "iptables rules of Linkerd's"),
            (&[15001, 15006], &["KUMA_MESH_OUTBOUND"], "iptables rules of Kuma's"),
            (&[15008], &[], "port 15008"),
        ] {
            assert!(judge(ports, chains, false).contains(told), "{told}");
        }
        assert!(judge(&[], &[], true).contains("iptables-legacy"));
    }

    #[test]
    fn chains_are_read_and_odd_bytes_end_it() {
        let mut message = vec![0; HEADER + 4];
        message.extend(10_u16.to_ne_bytes());
        message.extend(CHAIN_NAME.to_ne_bytes());
        message.extend(b"ABCDE\0\0\0");
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&NFT_NEW_CHAIN.to_ne_bytes());
        let mut names = Vec::new();
        assert!(!read(&message.repeat(2), &mut names));
        assert_eq!(names, ["ABCDE", "ABCDE"]);
        for end in HEADER..message.len() {
            names.clear();
            read(&message[..end], &mut names);
            assert!(names.is_empty(), "{end}");
        }
        assert!(read(&[0xff; 32], &mut names) && read(&[0; 16], &mut names));
    }
}
