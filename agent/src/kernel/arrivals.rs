//! Whom an accepted connection comes from, and where it was meant to go.

use super::{Kernel, KernelError, maps::Table};
use std::net::SocketAddr;
use weft_ebpf_abi::{self as abi, ArrivalKey, arrival};

/// What a connection that reaches a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrivalKind {
    /// Captured on its way out.
    Captured,
    /// From another workload on the node, let through by policy.
    Direct,
    /// From the pod itself.
    Own,
    /// From the node's own namespace.
    Node,
    /// The agent's delivery.
    Delivery,
}

/// What the client's socket recorded before its first packet left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What it is.
    pub kind: ArrivalKind,
    /// The cookie of the client's namespace.
    pub source: u64,
    /// Where the application meant to connect.
    pub original: SocketAddr,
    /// The service endpoint that the kernel picked, if it did.
    pub backend: Option<SocketAddr>,
    /// The kernel's pick fell on an endpoint that is not on this node: choose among those, or the local ones get more
    /// than their share.
    pub remote_only: bool,
}

/// Looks arrivals up. Cheap to make, one for each worker; needs no lock.
pub struct Arrivals {
    table: Table<ArrivalKey, abi::Arrival>,
}

impl Kernel {
    /// A reader of arrivals.
    pub fn arrivals(&self) -> Result<Arrivals, KernelError> {
        Ok(Arrivals { table: Table::open(&self.pins, "ARRIVALS")? })
    }
}

impl Arrivals {
    /// What the connection is that a listener in pod `cookie` accepted from `client`, `local` being the accepted
    /// socket's own address. `None`: it comes from elsewhere, or its record was evicted: trust nothing about it.
    pub fn find(&self, cookie: u64, client: SocketAddr, local: SocketAddr) -> Option<Arrival> {
        let key = ArrivalKey { cookie, source: client.into(), destination: local.into() };
        let found = self.table.get(key)?;
        let kind = match found.kind {
            arrival::CAPTURED => ArrivalKind::Captured,
            arrival::DIRECT => ArrivalKind::Direct,
            arrival::OWN => ArrivalKind::Own,
            arrival::NODE => ArrivalKind::Node,
            arrival::DELIVERY => ArrivalKind::Delivery,
            _ => return None,
        };
        Some(Arrival {
            kind,
            source: found.source,
            original: found.original.into(),
            backend: (found.backend.port != 0).then(|| found.backend.into()),
            remote_only: found.flags & arrival::REMOTE_ONLY != 0,
        })
    }
}
