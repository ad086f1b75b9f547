//! What pools tell of themselves, for the metrics.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

/// Where pools count. Clones count in the same place, so that the pools of all workers can share one.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Tunnels held open.
    pub tunnels: Gauge,
    /// TLS handshakes that failed; once for each, however many streams waited for it.
    pub tls_failures: Counter,
}

/// A tunnel that is held open; it counts for as long as this lives.
#[derive(Debug)]
pub struct HeldTunnel(Gauge);

impl HeldTunnel {
    /// Counts one more in `tunnels`.
    pub fn new(tunnels: Gauge) -> Self {
        tunnels.inc();
        Self(tunnels)
    }
}

impl Drop for HeldTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}
