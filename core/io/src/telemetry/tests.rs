use super::*;
use access_log::{Format, Select};
use std::{
    io::{self, Write},
    sync::Mutex,
    time::Duration,
};
use weft_model::{Delta, Service, SnapshotStore, Workload, WorkloadUid};

/// Where a test's access log goes.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn workload(uid: &'static str, name: &'static str, owner: &'static str, account: &'static str) -> Workload {
    let mut w = Workload::new(uid, "shop", name, account);
    w.workload_name = owner.into();
    w.canonical_name = owner.into();
    w.canonical_revision = "v1".into();
    w
}

fn web() -> Workload {
    workload("Kubernetes//Pod/shop/web-0", "web-0", "web", "web")
}

fn db() -> Workload {
    workload("Kubernetes//Pod/shop/db-0", "db-0", "db", "db")
}

/// The mesh that the tests speak of: web and db, and a service before db.
fn store() -> SnapshotStore {
    let store = SnapshotStore::default();
    let service = Service::new("shop", "db", "db.shop.svc.cluster.local");
    store.apply(vec![
        Delta::Workload(Box::new(web())),
        Delta::Workload(Box::new(db())),
        Delta::Service(service),
    ]);
    store
}

fn facts(store: &SnapshotStore, direction: Direction) -> Facts {
    let snapshot = store.load();
    let mut f = Facts::new(direction, "10.0.0.1:40000".parse().unwrap(), "10.0.1.2:5432".parse().unwrap());
    f.path = Path::Tunnel;
    f.source = snapshot.workload("Kubernetes//Pod/shop/web-0").cloned();
    f.source_identity = f.source.as_ref().map(|w| w.identity());
    f.destination = snapshot.workload("Kubernetes//Pod/shop/db-0").cloned();
    f.destination_identity = f.destination.as_ref().map(|w| w.identity());
    f.service = snapshot.services().next().cloned();
    f.hbone_addr = Some("10.0.1.2:15008".parse().unwrap());
    f
}

fn telemetry(select: Select, format: Format) -> (Arc<Telemetry>, Written) {
    let out = Written::default();
    let config = AccessLogConfig { select, format, queue: 16 };
    let log = AccessLog::new(config, out.clone()).unwrap();
    (Telemetry::new(&Config { workers: 2, ..Config::default() }, log), out)
}

fn quiet(config: &Config) -> Arc<Telemetry> {
    Telemetry::new(config, AccessLog::off())
}

/// The samples of `family`, without comments.
fn samples<'t>(text: &'t str, family: &str) -> Vec<&'t str> {
    text.lines().filter(|l| l.starts_with(family)).collect()
}

const TUNNELLED: &str = "reporter=\"source\",source_workload=\"web\",source_canonical_service=\"web\",\
source_canonical_revision=\"v1\",source_workload_namespace=\"shop\",\
source_principal=\"spiffe://cluster.local/ns/shop/sa/web\",source_app=\"web\",source_version=\"v1\",\
source_cluster=\"Kubernetes\",destination_service=\"db.shop.svc.cluster.local\",\
destination_service_namespace=\"shop\",destination_service_name=\"db\",destination_workload=\"db\",\
destination_canonical_service=\"db\",destination_canonical_revision=\"v1\",\
destination_workload_namespace=\"shop\",destination_principal=\"spiffe://cluster.local/ns/shop/sa/db\",\
destination_app=\"db\",destination_version=\"v1\",destination_cluster=\"Kubernetes\",\
request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"";

#[test]
fn metrics_carry_istios_names_and_labels() {
    let telemetry = quiet(&Config::default());
    let record = telemetry.worker(0).record(facts(&store(), Direction::Outbound));
    record.open();
    record.counters().add_to_server(10);
    record.counters().add_to_client(200);
    record.finish(Reason::Ok);
    let text = telemetry.scrape();
    for (family, value) in [
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_connections_closed_total", 1),
        ("istio_tcp_sent_bytes_total", 200),
        ("istio_tcp_received_bytes_total", 10),
    ] {
        assert_eq!(samples(&text, family), [format!("{family}{{{TUNNELLED}}} {value}")], "{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE istio_tcp_sent_bytes counter\n"));
}

#[test]
fn what_is_not_known_is_called_unknown() {
    let telemetry = quiet(&Config::default());
    let facts =
        Facts::new(Direction::Inbound, "192.0.2.1:1".parse().unwrap(), "10.0.0.9:80".parse().unwrap());
    telemetry.worker(0).record(facts).finish(Reason::PlaintextRefused);
    let text = telemetry.scrape();
    let [closed] = samples(&text, "istio_tcp_connections_closed_total")[..] else { panic!("{text}") };
    assert_eq!(closed.matches("=\"unknown\"").count(), 20, "{closed}");
    for part in [r#"reporter="destination""#, r#"response_flags="DENY""#, r#"request_protocol="tcp""#] {
        assert!(closed.contains(part), "{closed}");
    }
}

#[test]
fn bytes_count_while_the_connection_lives_and_only_once() {
    let telemetry = quiet(&Config::default());
    let record = telemetry.worker(1).record(facts(&store(), Direction::Outbound));
    record.open();
    let sent = |t: &Telemetry| {
        let text = t.scrape();
        samples(&text, "istio_tcp_sent_bytes_total")[0].rsplit(' ').next().unwrap().to_owned()
    };
    record.counters().add_to_client(5);
    assert_eq!(sent(&telemetry), "5");
    assert_eq!(sent(&telemetry), "5");
    record.counters().add_to_client(7);
    record.finish(Reason::Ok);
    assert_eq!(sent(&telemetry), "12");
}

#[test]
fn every_reason_has_its_place_in_the_closed_counter() {
    for reason in Reason::ALL {
        assert!(series::RESPONSE_FLAGS.contains(&reason.response_flags()), "{reason}");
    }
}

#[test]
fn active_connections_are_counted_by_direction_and_path() {
    let telemetry = quiet(&Config::default());
    let record = telemetry.worker(0).record(facts(&store(), Direction::Outbound));
    let active = r#"weft_connections_active{direction="outbound",path="tunnel"}"#;
    assert!(telemetry.scrape().contains(&format!("{active} 1\n")));
    drop(record);
    assert!(telemetry.scrape().contains(&format!("{active} 0\n")));
}

#[test]
fn series_beyond_the_bound_are_counted_together() {
    let telemetry = quiet(&Config { max_series: 1, ..Config::default() });
    let store = store();
    telemetry.worker(0).record(facts(&store, Direction::Outbound)).finish(Reason::Ok);
    for _ in 0..3 {
        telemetry.worker(0).record(facts(&store, Direction::Inbound)).finish(Reason::Ok);
    }
    let text = telemetry.scrape();
    let opened = samples(&text, "istio_tcp_connections_opened_total");
    assert_eq!(opened.len(), 2, "{text}");
    let overflow = opened.iter().find(|l| l.contains(r#"source_workload="overflow""#)).unwrap();
    assert!(overflow.contains(r#"reporter="destination""#) && overflow.ends_with(" 3"), "{overflow}");
    assert!(text.contains("weft_metric_series_overflowed_total 3\n"), "{text}");
}

#[test]
fn series_of_workloads_that_are_gone_expire_when_nothing_holds_them() {
    let telemetry = quiet(&Config::default());
    let store = store();
    let record = telemetry.worker(0).record(facts(&store, Direction::Outbound));
    record.open();
    let start = Instant::now();
    let keep = metrics::KEEP_GONE;
    assert_eq!(telemetry.metrics.expire(&store.load(), start + 2 * keep), 0, "both workloads are there");
    store.apply(vec![Delta::WorkloadGone(WorkloadUid::from("Kubernetes//Pod/shop/db-0"))]);
    assert_eq!(telemetry.metrics.expire(&store.load(), start), 0, "it has only just gone");
    assert_eq!(telemetry.metrics.expire(&store.load(), start + keep), 0, "a connection still holds it");
    record.finish(Reason::WorkloadGone);
    assert_eq!(telemetry.metrics.expire(&store.load(), start + keep / 2), 0, "not long enough");
    store.apply(vec![Delta::Workload(Box::new(db()))]);
    assert_eq!(telemetry.metrics.expire(&store.load(), start + keep), 0, "it came back");
    store.apply(vec![Delta::WorkloadGone(WorkloadUid::from("Kubernetes//Pod/shop/db-0"))]);
    assert_eq!(telemetry.metrics.expire(&store.load(), start + keep), 0, "the time starts anew");
    assert_eq!(telemetry.metrics.expire(&store.load(), start + 2 * keep), 1);
    assert!(samples(&telemetry.scrape(), "istio_tcp_").is_empty());
}

#[test]
fn the_access_log_names_both_ends() {
    let (telemetry, out) = telemetry(Select::All, Format::Text);
    let record = telemetry.worker(0).record(facts(&store(), Direction::Outbound));
    record.open();
    record.counters().add_to_server(10);
    record.counters().add_to_client(200);
    record.finish(Reason::Ok);
    drop(telemetry);
    let text = out.text();
    let (time, line) = text.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    let line = line.trim_end();
    let (line, duration) = line.rsplit_once(" duration=").unwrap();
    assert!(duration.ends_with("ms\""), "{duration}");
    assert_eq!(
        line,
        "info access connection complete src.addr=10.0.0.1:40000 src.workload=\"web-0\" src.namespace=\"shop\" \
         src.identity=\"spiffe://cluster.local/ns/shop/sa/web\" dst.addr=10.0.1.2:5432 \
         dst.hbone_addr=10.0.1.2:15008 dst.service=\"db.shop.svc.cluster.local\" dst.workload=\"db-0\" \
         dst.namespace=\"shop\" dst.identity=\"spiffe://cluster.local/ns/shop/sa/db\" direction=\"outbound\" \
         path=\"tunnel\" bytes_sent=10 bytes_recv=200"
    );
}

#[test]
fn the_access_log_as_json_sees_bytes_from_its_own_side() {
    let (telemetry, out) = telemetry(Select::Failed, Format::Json);
    let worker = telemetry.worker(0);
    worker.record(facts(&store(), Direction::Outbound)).finish(Reason::Ok);
    let mut facts = facts(&store(), Direction::Inbound);
    facts.policy = Some("shop/no-web".parse().unwrap());
    facts.trace = std::num::NonZero::new(0xabc);
    let record = worker.record(facts);
    record.counters().add_to_server(10);
    record.finish(Reason::PolicyDenied);
    drop((worker, telemetry));
    let text = out.text();
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in [
        ("level", "error".into()),
        ("message", "connection failed".into()),
        ("src.workload", "web-0".into()),
        ("dst.identity", "spiffe://cluster.local/ns/shop/sa/db".into()),
        ("bytes_sent", 0.into()),
        ("bytes_recv", serde_json::Value::from(10)),
        ("policy", "shop/no-web".into()),
        ("error", "policy_denied".into()),
        ("trace_id", "00000000000000000000000000000abc".into()),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
}

#[test]
fn denied_selects_only_what_policy_refused() {
    let (telemetry, out) = telemetry(Select::Denied, Format::Text);
    for reason in [Reason::Ok, Reason::ConnectFailed, Reason::PolicyChanged, Reason::ClientReset] {
        telemetry.worker(0).record(facts(&store(), Direction::Inbound)).finish(reason);
    }
    drop(telemetry);
    let text = out.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("error=\"policy_changed\""), "{text}");
}

#[test]
fn a_name_cannot_forge_a_line() {
    let (telemetry, out) = telemetry(Select::All, Format::Text);
    let mut facts = facts(&store(), Direction::Outbound);
    let mut w = web();
    w.name = "x\" error=\"ok\nnext".into();
    facts.source = Some(Arc::new(w));
    telemetry.worker(0).record(facts).finish(Reason::Ok);
    drop(telemetry);
    let text = out.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(r#"src.workload="x\" error=\"ok\nnext""#), "{text}");
}

/// A writer that takes its first line only when it is let.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // An error means that the test let go of its end: from then on nothing is held up.
        let _ = self.0.recv();
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_is_stuck_costs_lines_not_connections() {
    let (release, stuck) = std::sync::mpsc::channel();
    let config = AccessLogConfig { queue: 2, ..AccessLogConfig::default() };
    let log = AccessLog::new(config, Stuck(stuck)).unwrap();
    let telemetry = Telemetry::new(&Config::default(), log);
    // The writer takes one line or several into its first batch, two wait, the others find no room.
    for _ in 0..20_000 {
        telemetry.worker(0).record(facts(&store(), Direction::Inbound)).finish(Reason::Ok);
        if telemetry.access_log.dropped() > 0 {
            break;
        }
    }
    assert!(telemetry.access_log.dropped() > 0);
    assert!(!telemetry.scrape().contains("weft_access_log_dropped_total 0\n"));
    drop(release);
}

#[test]
fn a_writer_that_stays_stuck_does_not_hold_up_the_end() {
    let (_release, stuck) = std::sync::mpsc::channel();
    let log = AccessLog::new(AccessLogConfig::default(), Stuck(stuck)).unwrap();
    let telemetry = Telemetry::new(&Config::default(), log);
    telemetry.worker(0).record(facts(&store(), Direction::Inbound)).finish(Reason::Ok);
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(telemetry);
        ended.send(())
    });
    assert_eq!(end.recv_timeout(Duration::from_secs(60)), Ok(()));
}

#[test]
fn a_record_that_is_dropped_without_a_word_is_a_fault_of_ours() {
    let (telemetry, out) = telemetry(Select::All, Format::Text);
    drop(telemetry.worker(0).record(facts(&store(), Direction::Inbound)));
    assert!(telemetry.connections.is_empty());
    drop(telemetry);
    assert!(out.text().contains("error=\"internal\""), "{}", out.text());
}

#[tokio::test]
async fn a_connection_learns_that_it_must_close_and_why() {
    let (telemetry, out) = telemetry(Select::All, Format::Text);
    let store = store();
    let record = telemetry.worker(0).record(facts(&store, Direction::Inbound));
    let other = telemetry.worker(1).record(facts(&store, Direction::Outbound));
    let verdict = |f: &Facts| (f.direction == Direction::Inbound).then_some(Reason::PolicyChanged);
    assert_eq!(telemetry.connections.close_where(verdict), 1);
    assert_eq!(telemetry.connections.close_where(verdict), 0, "it was asked already");
    assert_eq!(record.close_requested().await, Reason::PolicyChanged);
    assert!(tokio::time::timeout(Duration::from_millis(1), other.close_requested()).await.is_err());
    // Asked while it waits.
    let id = other.live().id;
    let table = telemetry.connections.clone();
    let (reason, _) =
        tokio::join!(other.close_requested(), async { table.get(id).unwrap().close(Reason::Drained) });
    assert_eq!(reason, Reason::Drained);
    // A task that is cancelled rather than told ends for what was asked.
    drop(record);
    drop((other, telemetry));
    assert!(out.text().contains("error=\"policy_changed\""), "{}", out.text());
}

#[test]
fn the_table_lists_what_lives_and_what_is_known_of_it() {
    let telemetry = quiet(&Config { workers: 3, ..Config::default() });
    let store = store();
    let records: Vec<_> =
        (0..5).map(|n| telemetry.worker(n).record(facts(&store, Direction::Outbound))).collect();
    records[4].update(|f| f.policy = Some("shop/all".parse().unwrap()));
    let all = telemetry.connections.snapshot();
    assert_eq!(all.len(), 5);
    let told = all.iter().filter(|c| c.facts().policy.is_some()).count();
    assert_eq!(told, 1);
    drop(records);
    assert!(telemetry.connections.is_empty());
    assert!(telemetry.connections.get(all[0].id).is_none());
}

#[test]
fn the_latest_ends_are_remembered() {
    let telemetry = quiet(&Config::default());
    let store = store();
    for _ in 0..300 {
        telemetry.worker(0).record(facts(&store, Direction::Inbound)).finish(Reason::Ok);
    }
    let last = telemetry.worker(0).record(facts(&store, Direction::Inbound));
    last.open();
    let id = last.live().id;
    last.finish(Reason::ServerReset);
    let ended = telemetry.connections.ended();
    assert_eq!(ended.len(), 256);
    let last = ended.last().unwrap();
    assert_eq!((last.connection.id, last.reason, last.opened), (id, Reason::ServerReset, true));
    assert!(!ended[0].opened);
    assert_eq!(last.connection.age(), last.connection.age(), "it stopped ageing");
}

#[tokio::test]
async fn watchers_see_openings_ends_and_refusals() {
    let telemetry = quiet(&Config { flow_backlog: 4, ..Config::default() });
    let worker = telemetry.worker(0);
    let store = store();
    worker.record(facts(&store, Direction::Inbound)).finish(Reason::Ok);
    let mut watch = telemetry.flows.watch();
    let record = worker.record(facts(&store, Direction::Inbound));
    record.open();
    record.open();
    record.finish(Reason::ClientReset);
    worker.record(facts(&store, Direction::Inbound)).finish(Reason::PolicyDenied);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let flow = watch.next().await.unwrap();
        seen.push((flow.event, flow.reason));
    }
    assert_eq!(
        seen,
        [
            (FlowEvent::Open, None),
            (FlowEvent::Close, Some(Reason::ClientReset)),
            (FlowEvent::Refused, Some(Reason::PolicyDenied)),
        ]
    );
    for _ in 0..10 {
        worker.record(facts(&store, Direction::Inbound)).finish(Reason::Ok);
    }
    watch.next().await.unwrap();
    assert_eq!(telemetry.flows.dropped(), 6, "a watcher that lags loses the oldest");
}

#[test]
fn kernel_flows_are_records_with_totals() {
    let telemetry = quiet(&Config::default());
    let mut facts = facts(&store(), Direction::Inbound);
    facts.path = Path::Direct;
    let started = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
    let record = telemetry.worker(usize::MAX).record_since(facts, started);
    record.open();
    record.counters().set_totals(100, 50);
    record.counters().set_totals(90, 60);
    record.counters().set_tcp(120, 3);
    let live = record.live().clone();
    assert!(live.age() >= Duration::from_secs(2));
    assert_eq!((live.counters.to_server(), live.counters.to_client()), (100, 60));
    assert_eq!((live.counters.rtt_micros(), live.counters.retransmits()), (120, 3));
    record.finish(Reason::Ok);
    let text = telemetry.scrape();
    let received = samples(&text, "istio_tcp_received_bytes_total");
    assert!(received[0].contains("connection_security_policy=\"unknown\"") && received[0].ends_with(" 100"));
}
