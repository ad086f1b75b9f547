//! What metrics show of the agent's parts, read from them just before each scrape, and how long series are kept.

use super::{
    AgentView,
    proto::{Bpf, Control, Drains},
    status::guarded,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};
use weft_io::telemetry::{Metrics, Telemetry};
use weft_model::SnapshotStore;

/// How often it is looked whether workloads are gone: listing those of a large mesh takes milliseconds.
const LOOK: Duration = Duration::from_secs(60);

/// Has `metrics` ask `agent` before each scrape.
pub fn gauges(metrics: &Metrics, agent: Arc<dyn AgentView>) {
    metrics.before_scrape(move |metrics| {
        control(metrics, &agent.control());
        certificates(metrics, &*agent);
        let bpf = agent.bpf();
        kernel(metrics, &bpf);
        guard(metrics, &*agent, &bpf);
        drains(metrics, &agent.drains());
    });
}

/// Drops the series of workloads that are gone from `store`, for as long as it is polled.
pub async fn expire_series(telemetry: Arc<Telemetry>, store: Arc<SnapshotStore>) {
    loop {
        telemetry.metrics.expire(&store.load(), Instant::now());
        tokio::time::sleep(LOOK).await;
    }
}

fn control(metrics: &Metrics, control: &Control) {
    metrics.xds_connected.set(control.connected.into());
    metrics.xds_responses.inner().store(control.responses, Ordering::Relaxed);
    metrics.xds_refusals.inner().store(control.refusals, Ordering::Relaxed);
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

fn guard(metrics: &Metrics, agent: &dyn AgentView, bpf: &Bpf) {
    let Some(guard) = agent.guard() else { return };
    if let Some(mode) = ["mesh", "all"].into_iter().find(|mode| guard.mode == *mode) {
        metrics.guard_attached.get_or_create_owned(&[("mode", mode)]).set((!guard.cgroup.is_empty()).into());
    }
    metrics.guard_waiting.set(guard.waiting.len() as i64);
    metrics.guard_refusals.inner().store(guarded(bpf), Ordering::Relaxed);
}

fn drains(metrics: &Metrics, drains: &Drains) {
    for (direction, cut) in [("outbound", drains.cut_outbound), ("inbound", drains.cut_inbound)] {
        let counter = metrics.drained.get_or_create_owned(&[("direction", direction)]);
        counter.inner().store(cut, Ordering::Relaxed);
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
    use super::*;
    use crate::admin::sample::sample;
    use weft_io::telemetry::metrics::KEEP_GONE;
    use weft_model::{Delta, Reason};

    #[test]
    fn a_scrape_shows_the_agents_parts() {
        let s = sample();
        gauges(&s.admin.telemetry.metrics, s.admin.agent.clone());
        let text = s.admin.telemetry.scrape();
        for line in [
            "weft_xds_connected 1\n",
            "weft_xds_responses_total 12\n",
            "weft_xds_refusals_total 1\n",
            "weft_kernel_map_entries{map=\"WORKLOADS\"} 2\n",
            "weft_kernel_map_capacity{map=\"EVENTS\"} 1048576\n",
            "weft_kernel_drops_total{what=\"events\"} 3\n",
            "weft_guard_attached{mode=\"mesh\"} 1\n",
            "weft_guard_waiting_pods 1\n",
            "weft_guard_refusals_total 4\n",
            "weft_drained_connections_total{direction=\"outbound\"} 2\n",
            "weft_drained_connections_total{direction=\"inbound\"} 1\n",
            "weft_certificate_expiry_timestamp_seconds{identity=\"spiffe://cluster.local/ns/shop/sa/web\"} ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("weft_kernel_map_entries{map=\"EVENTS\"}"));
    }

    #[tokio::test]
    async fn series_expire_though_nobody_scrapes() {
        let s = sample();
        let (telemetry, store) = (s.admin.telemetry.clone(), s.admin.snapshots.clone());
        s.records.into_iter().for_each(|r| r.finish(Reason::Ok));
        let gone = store.load().workloads().map(|w| Delta::WorkloadGone(w.uid.clone())).collect();
        assert!(!telemetry.metrics.series.is_empty());
        store.apply(gone);
        // It looks at once, and then waits; only what a look has missed can expire later.
        tokio::select! {
            biased;
            () = expire_series(telemetry.clone(), store.clone()) => panic!("it ended"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(telemetry.metrics.expire(&store.load(), Instant::now() + KEEP_GONE), 4);
    }
}
