use super::*;
use arc_swap::ArcSwap;
use weft_io::telemetry::{AccessLog, AccessLogConfig, Config, Direction, ENDED_KEPT, Path, Telemetry};
use weft_model::{
    Delta, NetworkAddress, Policy, Service, ServiceKey, Workload, WorkloadUid,
    policy::{Action, PolicyScope, Rule},
};

/// When the agent began; [`direct`] was opened later.
const BEGAN: Duration = Duration::from_secs(9);

/// web (cookie 1) and db (cookie 2) on one node, db behind a service.
struct World {
    flows: KernelFlows,
    telemetry: Arc<Telemetry>,
    store: Arc<SnapshotStore>,
}

impl World {
    fn new() -> Self {
        Self::logging_to(AccessLog::off())
    }

    fn logging_to(log: AccessLog) -> Self {
        let store = Arc::new(SnapshotStore::default());
        let mut service = Service::new("shop", "db", "db.shop.svc.cluster.local");
        service.addresses = vec![NetworkAddress::new("".into(), "10.96.0.1".parse().unwrap())];
        let deny = Policy {
            key: "shop/no-one".parse().unwrap(),
            scope: PolicyScope::Selector,
            action: Action::Deny,
            dry_run: false,
            rules: vec![Rule::default()],
        };
        let mut db = pod("db", "10.0.0.2");
        db.policies = vec![deny.key.clone()];
        store.apply(vec![
            Delta::Policy(deny),
            Delta::Service(service),
            Delta::Workload(Box::new(pod("web", "10.0.0.1"))),
            Delta::Workload(Box::new(db)),
        ]);
        let pods: [(u64, WorkloadUid); 2] = [(1, "k//Pod/shop/web".into()), (2, "k//Pod/shop/db".into())];
        let telemetry = Telemetry::new(&Config::default(), log);
        let pods: LocalPods = Arc::new(ArcSwap::from_pointee(pods.into_iter().collect()));
        Self { flows: KernelFlows::new(telemetry.worker(9), store.clone(), pods, BEGAN), telemetry, store }
    }

    fn take(&mut self, kind: EventKind, flow: Flow) {
        self.flows.take(&Event { kind, flow });
        self.flows.settle();
    }

    fn live(&self) -> usize {
        self.telemetry.connections.len()
    }
}

fn pod(name: &str, ip: &str) -> Workload {
    let mut w = Workload::new(format!("k//Pod/shop/{name}"), "shop", name, name);
    w.addresses = vec![ip.parse().unwrap()];
    w
}

fn direct() -> Flow {
    Flow {
        socket: 77,
        source: 1,
        destination: Some(2),
        client: Some("10.0.0.1:4000".parse().unwrap()),
        original: "10.96.0.1:80".parse().unwrap(),
        backend: Some("10.0.0.2:5432".parse().unwrap()),
        verdict: Verdict::Direct,
        established: true,
        ending: Ending::Peace,
        opened: Duration::from_secs(10),
        updated: Duration::from_secs(13),
        bytes_sent: 100,
        bytes_received: 200,
        srtt: Duration::from_micros(85),
        retransmits: 1,
    }
}

#[test]
fn a_direct_connection_is_told_from_both_sides() {
    let mut world = World::new();
    world.take(EventKind::Open, direct());
    let live = world.telemetry.connections.snapshot();
    let mut directions: Vec<_> = live.iter().map(|c| c.facts().direction).collect();
    directions.sort();
    assert_eq!(directions, [Direction::Inbound, Direction::Outbound]);
    let facts = live[0].facts();
    assert_eq!(facts.path, Path::Direct);
    assert_eq!(facts.destination_addr, "10.0.0.2:5432".parse().unwrap());
    assert_eq!(&*facts.service.unwrap().service.name, "db");
    assert_eq!(facts.source_identity.unwrap().to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(facts.destination_identity.unwrap().to_string(), "spiffe://cluster.local/ns/shop/sa/db");
    assert!(live[0].age() >= Duration::from_secs(3), "it is as old as the kernel says");
    assert_eq!(live[0].counters.rtt_micros(), 85);
    assert_eq!(facts.policy, None, "what would refuse it now did not allow it then");
    world.take(EventKind::Close, Flow { bytes_sent: 150, ..direct() });
    assert_eq!(world.live(), 0);
    let text = world.telemetry.scrape();
    for reporter in ["source", "destination"] {
        let received = text
            .lines()
            .find(|l| {
                l.starts_with("istio_tcp_received_bytes_total")
                    && l.contains(&format!("reporter=\"{reporter}\""))
            })
            .unwrap();
        assert!(received.ends_with(" 150"), "{received}");
        assert!(received.contains("destination_service_name=\"db\""), "{received}");
    }
}

/// What is told of a connection, whether it was seen while it lived or not: series, log lines, and what `flows` shows of it.
fn told_of(flow: Flow, at_once: bool) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (pipe, out) = std::io::pipe().unwrap();
    let log = AccessLog::new(AccessLogConfig::default(), out).unwrap();
    let mut world = World::logging_to(log);
    world
        .flows
        .take(&Event { kind: EventKind::Open, flow: Flow { bytes_sent: 0, bytes_received: 0, ..flow } });
    if !at_once {
        world.flows.settle();
        assert_eq!(world.live(), 2);
    }
    world.flows.take(&Event { kind: EventKind::Close, flow });
    world.flows.settle();
    assert_eq!(world.live(), 0);
    let mut series: Vec<_> = world.telemetry.scrape().lines().map(str::to_owned).collect();
    series.retain(|line| line.starts_with("istio_tcp") || line.contains("active"));
    series.sort();
    let ended = world.telemetry.connections.ended();
    let mut ended: Vec<_> = ended
        .iter()
        .map(|e| {
            let (facts, counters) = (e.connection.facts(), &e.connection.counters);
            format!("{:?} {} {counters:?} {facts:?}", e.reason, e.opened)
        })
        .collect();
    ended.sort();
    drop(world);
    // What is left of a line when its time is cut off.
    let lines = std::io::read_to_string(pipe).unwrap();
    let mut lines: Vec<_> = lines.lines().map(|l| l.split_once(' ').unwrap().1.to_owned()).collect();
    lines.sort();
    (series, lines, ended)
}

#[test]
fn a_connection_that_nobody_saw_alive_is_told_like_one_that_was_seen() {
    for ending in [Ending::Peace, Ending::ClientReset] {
        // So that both ages are the same to the millisecond, it took no time.
        let flow = Flow { ending, opened: Duration::from_secs(13), ..direct() };
        let (series, lines, ended) = told_of(flow, true);
        let of_seen = told_of(flow, false);
        assert_eq!((&series, &ended), (&of_seen.0, &of_seen.2));
        let stripped = |lines: &[String]| -> Vec<String> {
            lines.iter().map(|l| l.split(" duration=").next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(stripped(&lines), stripped(&of_seen.1));
        assert!(lines.len() == 2 && ended.len() == 2, "{lines:#?} {ended:#?}");
        assert!(lines.iter().all(|l| l.contains(" duration=\"0ms\"")), "{lines:#?}");
        let resets = lines.iter().filter(|l| l.ends_with(" error=\"client_reset\"")).count();
        assert_eq!(resets, if ending == Ending::Peace { 0 } else { 2 });
    }
}

#[test]
fn what_is_remembered_of_many_are_the_last() {
    let mut world = World::new();
    for port in 1..=1000 {
        let flow = Flow { socket: port.into(), client: Some(([10, 0, 0, 1], port).into()), ..direct() };
        world.flows.take(&Event { kind: EventKind::Open, flow });
        world.flows.take(&Event { kind: EventKind::Close, flow });
    }
    world.flows.settle();
    let ended = world.telemetry.connections.ended();
    assert_eq!(ended.last().unwrap().connection.facts().source_addr.port(), 1000);
    assert_eq!(ended.len(), ENDED_KEPT);
    let text = world.telemetry.scrape();
    let closed = text.lines().filter(|l| l.starts_with("istio_tcp_connections_closed_total"));
    assert!(closed.clone().all(|l| l.ends_with(" 1000")) && closed.count() == 2, "{text}");
}

#[test]
fn a_change_of_the_mesh_is_seen_by_the_next_connection() {
    let mut world = World::new();
    let pass = |world: &mut World| {
        world.flows.take(&Event { kind: EventKind::Open, flow: direct() });
        world.flows.take(&Event { kind: EventKind::Close, flow: direct() });
        world.flows.settle();
        world.telemetry.connections.ended().last().unwrap().connection.facts()
    };
    assert!(pass(&mut world).service.is_some());
    let key = ServiceKey { namespace: "shop".into(), hostname: "db.shop.svc.cluster.local".into() };
    world.store.apply(vec![Delta::ServiceGone(key)]);
    assert!(pass(&mut world).service.is_none());
}

#[test]
fn a_reset_is_told_as_that_of_the_side_it_came_from() {
    for (ending, reason) in
        [(Ending::ClientReset, Reason::ClientReset), (Ending::ServerReset, Reason::ServerReset)]
    {
        let mut world = World::new();
        world.take(EventKind::Open, direct());
        world.take(EventKind::Close, Flow { ending, ..direct() });
        let reasons: Vec<_> = world.telemetry.connections.ended().iter().map(|e| e.reason).collect();
        assert_eq!(reasons, [reason; 2]);
    }
}

#[test]
fn a_close_without_an_opening_counts_both() {
    let mut world = World::new();
    world.take(EventKind::Close, direct());
    let ended = world.telemetry.connections.ended();
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|e| e.opened && e.reason == Reason::Ok));
}

#[test]
fn what_was_cut_ends_for_what_it_was_cut_for() {
    let mut world = World::new();
    world.take(EventKind::Open, direct());
    assert_eq!(world.telemetry.connections.close_where(|_| Some(Reason::PolicyChanged)), 2);
    world.take(EventKind::Close, direct());
    let ended = world.telemetry.connections.ended();
    assert!(ended.iter().all(|e| e.opened && e.reason == Reason::PolicyChanged));
}

#[test]
fn what_was_refused_names_the_policy() {
    let mut world = World::new();
    let flow = Flow { verdict: Verdict::Deny, client: None, established: false, ..direct() };
    world.take(EventKind::Deny, flow);
    let ended = world.telemetry.connections.ended();
    assert_eq!(ended.len(), 2);
    for e in ended {
        assert_eq!((e.reason, e.opened), (Reason::PolicyDenied, false));
        let facts = e.connection.facts();
        assert_eq!(facts.source_addr, "10.0.0.1:0".parse().unwrap());
        assert_eq!(facts.policy, Some("shop/no-one".parse().unwrap()));
    }
}

#[test]
fn what_the_agent_carries_or_stays_in_the_pod_is_not_told_twice() {
    let mut world = World::new();
    for verdict in [Verdict::Agent, Verdict::Own] {
        world.take(EventKind::Open, Flow { verdict, ..direct() });
        world.take(EventKind::Close, Flow { verdict, ..direct() });
    }
    let loopback = Flow {
        verdict: Verdict::Pass,
        original: "127.0.0.1:80".parse().unwrap(),
        backend: None,
        destination: None,
        ..direct()
    };
    world.take(EventKind::Close, loopback);
    world.take(EventKind::Close, Flow { source: 3, ..direct() });
    assert!(world.telemetry.connections.ended().is_empty());
}

#[test]
fn what_passes_by_the_mesh_is_told_by_its_client() {
    let mut world = World::new();
    let out = Flow {
        verdict: Verdict::Pass,
        original: "192.0.2.1:443".parse().unwrap(),
        backend: None,
        destination: None,
        established: false,
        ..direct()
    };
    world.take(EventKind::Close, out);
    let [ended] = &world.telemetry.connections.ended()[..] else { panic!() };
    assert_eq!((ended.reason, ended.opened), (Reason::ConnectFailed, false));
    let facts = ended.connection.facts();
    assert_eq!((facts.path, facts.direction), (Path::Passthrough, Direction::Outbound));
    assert!(facts.source_identity.is_none() && facts.destination.is_none());
}

/// [`direct`], but opened before the agent began.
fn older() -> Flow {
    Flow { opened: Duration::from_secs(5), ..direct() }
}

/// The values of the samples of `family`.
fn values(telemetry: &Telemetry, family: &str) -> Vec<String> {
    let text = telemetry.scrape();
    let samples = text.lines().filter(|l| l.starts_with(family));
    samples.map(|l| l.rsplit(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn connections_from_before_are_found_and_count_from_then_on() {
    let mut world = World::new();
    world.flows.refresh(&[older()]);
    assert_eq!(world.live(), 2);
    assert!(world.telemetry.connections.snapshot().iter().all(|c| c.is_open()));
    world.flows.refresh(&[Flow { bytes_received: 500, ..older() }]);
    assert_eq!(world.telemetry.connections.snapshot()[0].counters.to_client(), 500);
    assert_eq!(values(&world.telemetry, "istio_tcp_sent_bytes_total"), ["300", "300"]);
    world.take(EventKind::Close, Flow { bytes_received: 600, ..older() });
    assert_eq!(values(&world.telemetry, "istio_tcp_sent_bytes_total"), ["400", "400"]);
    assert_eq!(values(&world.telemetry, "istio_tcp_connections_opened_total"), ["0", "0"]);
    assert_eq!(values(&world.telemetry, "istio_tcp_connections_closed_total"), ["1", "1"]);
}

#[test]
fn an_opening_that_no_agent_has_read_counts_though_it_is_old() {
    let mut world = World::new();
    world.take(EventKind::Open, older());
    assert_eq!(values(&world.telemetry, "istio_tcp_connections_opened_total"), ["1", "1"]);
    assert_eq!(values(&world.telemetry, "istio_tcp_sent_bytes_total"), ["200", "200"]);
}

#[test]
fn the_end_of_what_the_agent_before_saw_opening_is_an_end_only() {
    let mut world = World::new();
    world.take(EventKind::Close, older());
    assert_eq!(values(&world.telemetry, "istio_tcp_connections_opened_total"), ["0", "0"]);
    assert_eq!(values(&world.telemetry, "istio_tcp_connections_closed_total"), ["1", "1"]);
    assert!(world.telemetry.connections.ended().iter().all(|e| e.opened));
}

#[test]
fn an_agent_that_goes_ends_no_connection() {
    let World { mut flows, telemetry, .. } = World::new();
    flows.take(&Event { kind: EventKind::Open, flow: direct() });
    drop(flows);
    assert!(telemetry.connections.is_empty());
    assert!(telemetry.connections.ended().is_empty());
    assert!(values(&telemetry, "istio_tcp_connections_closed_total").is_empty());
}

#[test]
fn connections_that_vanish_end() {
    let mut world = World::new();
    world.flows.refresh(&[direct()]);
    assert_eq!(world.live(), 2);
    world.flows.refresh(&[]);
    assert_eq!(world.live(), 2, "its close may still be on the way");
    world.flows.refresh(&[]);
    assert_eq!(world.live(), 0);
}

#[test]
fn a_plaintext_connection_from_outside_is_told_from_the_server_s_side_alone() {
    let mut world = World::new();
    let outside = Flow {
        socket: 78,
        source: 0,
        client: Some("192.0.2.7:5000".parse().unwrap()),
        original: "10.0.0.2:5432".parse().unwrap(),
        backend: None,
        verdict: Verdict::Plain,
        ..direct()
    };
    world.take(EventKind::Open, outside);
    let live = world.telemetry.connections.snapshot();
    let [connection] = &live[..] else { panic!("{} connections", live.len()) };
    let facts = connection.facts();
    assert_eq!((facts.direction, facts.path), (Direction::Inbound, Path::Passthrough));
    assert_eq!((facts.source_addr, facts.destination_addr), (outside.client.unwrap(), outside.original));
    assert!(facts.source.is_none() && facts.source_identity.is_none() && facts.policy.is_none());
    assert_eq!(&*facts.destination.as_ref().unwrap().name, "db");
    world.take(EventKind::Close, outside);
    assert_eq!(world.live(), 0);
}
