//! What a pod may do before it is known whether it takes part in the mesh.

use crate::{World, route::known};
use weft_ebpf_abi::{Endpoint, destination};

/// Whether a connection to `to` waits until its pod is classified. What is outside of the mesh does not: it would go on
/// untouched afterwards as well, and pods of the system must get there whatever becomes of the agent. `all` makes it wait, too.
#[inline(always)]
pub fn must_wait<W: World>(world: &W, all: bool, to: &Endpoint) -> bool {
    if to.addr.is_loopback() || to.addr.is_unspecified() {
        return false;
    }
    match known(world, to) {
        Some(known) => all || known.flags & destination::OUTSIDE == 0,
        None => all || world.is_incomplete(),
    }
}

/// Whether a TCP segment with these flags asks for a connection: SYN, and no ACK.
#[inline(always)]
pub fn asks_for_connection(flags: u8) -> bool {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    flags & (SYN | ACK) == SYN
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::net::SocketAddr;
    use std::collections::BTreeMap;
    use weft_ebpf_abi::{Addr, Backend, BackendKey, Destination, PairKey, Service};

    #[derive(Default)]
    struct Table {
        destinations: BTreeMap<Addr, Destination>,
        services: BTreeMap<Endpoint, Service>,
        incomplete: bool,
    }

    impl World for Table {
        fn destination(&self, addr: &Addr) -> Option<Destination> {
            self.destinations.get(addr).copied()
        }
        fn service(&self, at: &Endpoint) -> Option<Service> {
            self.services.get(at).copied()
        }
        fn backend(&self, _: &BackendKey) -> Option<Backend> {
            None
        }
        fn pair(&self, _: &PairKey) -> Option<u32> {
            None
        }
        fn is_incomplete(&self) -> bool {
            self.incomplete
        }
        fn changed_ns(&self) -> u64 {
            0
        }
        fn flags(&self, _: u64) -> Option<u32> {
            None
        }
        fn random(&self) -> u32 {
            0
        }
    }

    #[test]
    fn the_first_segment_asks_and_no_other() {
        // SYN; with the flags of ECN; SYN and ACK; ACK; data; RST; FIN and ACK.
        let asks = [0x02, 0xc2, 0x12, 0x10, 0x18, 0x04, 0x11].map(asks_for_connection);
        assert_eq!(asks, [true, true, false, false, false, false, false]);
    }

    fn at(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn what_leads_into_the_mesh_waits_and_the_rest_does_not() {
        let mut world = Table::default();
        let service = |flags| Destination { kind: destination::SERVICE, flags, ..Destination::default() };
        let workload = Destination { kind: destination::WORKLOAD, ..Destination::default() };
        world.destinations.insert(at("10.0.0.2:0").addr, workload);
        world.destinations.insert(at("10.96.0.1:0").addr, service(destination::OUTSIDE));
        world.destinations.insert(at("10.96.0.2:0").addr, service(0));
        world.destinations.insert(at("192.0.2.7:0").addr, service(destination::EXTERNAL));
        world.services.insert(at("192.0.2.7:80"), Service::default());
        for (to, waits) in [
            ("10.0.0.2:80", true),
            ("10.96.0.2:80", true),
            ("10.96.0.1:443", false),
            ("192.0.2.1:443", false),
            ("192.0.2.7:80", true),
            ("192.0.2.7:443", false),
            ("127.0.0.1:80", false),
            ("[::1]:80", false),
            ("0.0.0.0:80", false),
        ] {
            assert_eq!(must_wait(&world, false, &at(to)), waits, "{to}");
        }
        assert!(
            must_wait(&world, true, &at("10.96.0.1:443")) && must_wait(&world, true, &at("192.0.2.1:443"))
        );
        assert!(!must_wait(&world, true, &at("127.0.0.1:80")), "what stays in the pod is its own");
        world.incomplete = true;
        assert!(must_wait(&world, false, &at("192.0.2.1:443")), "it may be the mesh's");
    }
}
