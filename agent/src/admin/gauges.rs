//! What metrics show of the agent's parts: read from them just before each scrape.

use super::{AgentView, proto::Bpf};
use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};
use weft_io::telemetry::Metrics;
use weft_model::SnapshotStore;

/// How often it is looked whether workloads are gone: listing those of a large mesh takes milliseconds.
const LOOK: Duration = Duration::from_secs(60);

/// Has `metrics` ask `agent` before each scrape.
pub fn gauges(metrics: &Metrics, agent: Arc<dyn AgentView>) {
    metrics.before_scrape(move |metrics| {
        metrics.xds_connected.set(agent.control().connected.into());
        certificates(metrics, &*agent);
        kernel(metrics, &agent.bpf());
    });
}

/// Has `metrics` drop the series of workloads that are gone from `store`, looking at most once a minute, before scrapes.
pub fn expiry(metrics: &Metrics, store: Arc<SnapshotStore>) {
    let last = Mutex::new(Instant::now());
    metrics.before_scrape(move |metrics| {
        let now = Instant::now();
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*last) >= LOOK {
            *last = now;
            metrics.expire(&store.load(), now);
        }
    });
}

fn certificates(metrics: &Metrics, agent: &dyn AgentView) {
    // Identities come and go with pods.
    metrics.certificate_expiry.clear();
    for status in agent.certificates() {
        let expiry = status.not_after.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(expiry) = expiry {
            let labels = [("identity", status.identity.to_string())];
            metrics.certificate_expiry.get_or_create(&labels).set(expiry.as_secs().cast_signed());
        }
    }
}

fn kernel(metrics: &Metrics, bpf: &Bpf) {
    for map in &bpf.maps {
        let labels = [("map", map.name.clone())];
        if let Some(entries) = map.entries {
            metrics.kernel_map_entries.get_or_create(&labels).set(entries.cast_signed());
        }
        metrics.kernel_map_capacity.get_or_create(&labels).set(map.capacity.cast_signed());
    }
    for counter in &bpf.counters {
        let Some(what) = counter.name.strip_suffix("_lost") else { continue };
        let drops = metrics.kernel_drops.get_or_create_owned(&[("what", what.to_owned())]);
        drops.inner().store(counter.value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use crate::admin::sample::sample;

    #[test]
    fn a_scrape_shows_the_agents_parts() {
        let s = sample();
        super::gauges(&s.admin.telemetry.metrics, s.admin.agent.clone());
        let text = s.admin.telemetry.scrape();
        for line in [
            "weft_xds_connected 1\n",
            "weft_kernel_map_entries{map=\"WORKLOADS\"} 2\n",
            "weft_kernel_map_capacity{map=\"EVENTS\"} 1048576\n",
            "weft_kernel_drops_total{what=\"events\"} 3\n",
            "weft_certificate_expiry_timestamp_seconds{identity=\"spiffe://cluster.local/ns/shop/sa/web\"} ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("weft_kernel_map_entries{map=\"EVENTS\"}"));
    }
}
