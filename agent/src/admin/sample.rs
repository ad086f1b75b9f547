//! A small agent with real state, for the tests of what is told about it.

use super::{Admin, AgentView, OlderError, proto};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tracing_subscriber::{EnvFilter, Registry, reload};
use weft_io::{
    lifecycle::ready::Ready,
    telemetry::{AccessLog, Config, Direction, Facts, Path, Record, Telemetry, trace::LogHandle},
    tls::{CertState, CertStatus},
};
use weft_model::{
    Delta, Identity, NetworkAddress, Policy, Reason, Service, SnapshotStore, Workload,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
    service::ServicePort,
    workload::{Health, PortMapping, Tunnel},
};

/// A time that lies this far back, with room for a slow test before what is printed of it changes.
fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

type Filter = reload::Layer<EnvFilter, Registry>;

struct View;

impl AgentView for View {
    fn pods(&self) -> Vec<proto::Pod> {
        let pod = |name: &str, address: &str, state: &str, error: &str| proto::Pod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            addresses: vec![address.to_owned()],
            state: state.to_owned(),
            error: error.to_owned(),
            warning: String::new(),
        };
        vec![
            pod("web-0", "10.0.1.1", "enrolled", ""),
            pod("late-0", "10.0.1.7", "failed", "its network namespace is gone"),
        ]
    }

    fn certificates(&self) -> Vec<CertStatus> {
        let status = |account: &str, state| CertStatus {
            identity: Identity::new("cluster.local", "shop", account),
            state,
            serial: None,
            not_before: None,
            not_after: None,
            last_error: None,
        };
        vec![
            CertStatus {
                serial: Some("2a:0f".to_owned()),
                not_before: Some(ago(3_600)),
                not_after: Some(SystemTime::now() + Duration::from_secs(12 * 3_600 + 30 * 60 + 50)),
                ..status("web", CertState::Valid)
            },
            CertStatus {
                last_error: Some("the authority cannot be reached".to_owned()),
                ..status("late", CertState::Failed)
            },
        ]
    }

    fn older(&self, pod: &str) -> Result<Vec<proto::OlderConnection>, OlderError> {
        let one = |pod: &str, direction: &str, change: &str, peer: proto::Peer, service: &str| {
            proto::OlderConnection {
                namespace: "shop".to_owned(),
                pod: pod.to_owned(),
                direction: direction.to_owned(),
                local: "10.0.1.1:40000".to_owned(),
                peer: Some(peer),
                service: service.to_owned(),
                change: change.to_owned(),
                since: super::convert::time(ago(3_670)),
            }
        };
        let db = proto::Peer {
            address: "10.0.2.1:5432".to_owned(),
            namespace: "shop".to_owned(),
            workload: "db-0".to_owned(),
            ..proto::Peer::default()
        };
        let outside = proto::Peer { address: "192.0.2.7:443".to_owned(), ..proto::Peer::default() };
        let mut all = vec![
            one("web-0", "outbound", "joined", db, ""),
            one("old-0", "inbound", "left", outside, "old.shop.svc.cluster.local"),
        ];
        all.retain(|o| pod.is_empty() || format!("{}/{}", o.namespace, o.pod) == pod);
        Ok(all)
    }

    fn reset_older(&self, pod: &str) -> Result<proto::OlderReset, OlderError> {
        let count = self.older(pod)?.len() as u64;
        Ok(proto::OlderReset { found: count > 0, count })
    }

    fn guard(&self) -> Option<proto::Guard> {
        Some(proto::Guard {
            mode: "mesh".to_owned(),
            cgroup: "/sys/fs/cgroup/kubepods.slice".to_owned(),
            waiting: vec!["shop/late-0".to_owned()],
            ..proto::Guard::default()
        })
    }

    fn drains(&self) -> proto::Drains {
        proto::Drains {
            count: 3,
            cut_outbound: 2,
            cut_inbound: 1,
            last_cut_outbound: 2,
            last_ended: super::convert::time(ago(3_670)),
            ..proto::Drains::default()
        }
    }

    fn control(&self) -> proto::Control {
        proto::Control {
            address: "https://control:15012".to_owned(),
            connected: true,
            since: super::convert::time(ago(3_670)),
            responses: 12,
            refusals: 1,
            ..proto::Control::default()
        }
    }

    fn bpf(&self) -> proto::Bpf {
        proto::Bpf {
            loaded: true,
            pin_dir: "/sys/fs/bpf/weft/node-1".to_owned(),
            abi_version: 1,
            programs: vec![
                proto::BpfProgram {
                    name: "connect4".to_owned(),
                    id: 7,
                    size: 2048,
                    verified: Some(900),
                    pod: None,
                },
                proto::BpfProgram {
                    name: "sk_lookup".to_owned(),
                    id: 9,
                    size: 1024,
                    verified: None,
                    pod: Some(4242),
                },
            ],
            maps: vec![
                proto::BpfMap {
                    name: "WORKLOADS".to_owned(),
                    kind: "hash".to_owned(),
                    entries: Some(2),
                    capacity: 4096,
                    key_size: 8,
                    value_size: 16,
                },
                proto::BpfMap {
                    name: "EVENTS".to_owned(),
                    kind: "ringbuf".to_owned(),
                    entries: None,
                    capacity: 1 << 20,
                    key_size: 0,
                    value_size: 0,
                },
            ],
            counters: [("events_lost", 3), ("guarded", 4)]
                .map(|(name, value)| proto::BpfCounter { name: name.to_owned(), value })
                .into(),
            ..proto::Bpf::default()
        }
    }

    fn direct(&self, source: &Workload, destination: &Workload, _: SocketAddr) -> bool {
        !source.node.is_empty() && source.node == destination.node
    }

    fn capture(&self) -> &'static str {
        "kernel"
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "node": "node-1" })
    }
}

/// The sample agent and its three live connections: web to db through a tunnel, web to cart on the node, and a plain one
/// from outside.
pub struct Sample {
    /// The agent.
    pub admin: Arc<Admin>,
    /// The connections; dropping one ends it.
    pub records: Vec<Record>,
    /// The filter that the agent's log handle changes; it lives as long as this.
    _filter: Filter,
}

/// Makes the sample.
pub fn sample() -> Sample {
    let snapshots = Arc::new(SnapshotStore::default());
    snapshots.apply(deltas());
    let telemetry = Telemetry::new(&Config::default(), AccessLog::off());
    let records = connections(&snapshots, &telemetry);
    let (filter, log) = LogHandle::new("info").unwrap();
    let admin = Admin {
        node: "node-1".to_owned(),
        started: ago(90_061),
        snapshots,
        telemetry,
        log,
        ready: Ready::new(),
        agent: Arc::new(View),
    };
    Sample { admin: Arc::new(admin), records, _filter: filter }
}

fn pod(name: &str, owner: &str, ip: &str, node: &str, tunnel: Tunnel) -> Workload {
    let mut w = Workload::new(format!("Kubernetes//Pod/shop/{name}"), "shop", name, owner);
    w.workload_name = owner.into();
    w.addresses = vec![ip.parse().unwrap()];
    w.node = node.into();
    w.tunnel = tunnel;
    w
}

fn policy(name: &str, action: Action, dry_run: bool, account: &str, port: u16) -> Policy {
    let principal = StringMatch::Exact(format!("cluster.local/ns/shop/sa/{account}").into());
    let from = Match { principals: vec![principal], ..Match::default() };
    let to = Match { destination_ports: vec![port], ..Match::default() };
    Policy {
        key: format!("shop/{name}").parse().unwrap(),
        scope: PolicyScope::Selector,
        action,
        dry_run,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![from] }, Clause { matches: vec![to] }] }],
    }
}

fn deltas() -> Vec<Delta> {
    let mut service = Service::new("shop", "db", "db.shop.svc.cluster.local");
    service.addresses = vec![NetworkAddress::new("".into(), "10.96.0.1".parse().unwrap())];
    service.ports = vec![ServicePort { service_port: 80, target_port: 5432 }];
    let behind = |w: &mut Workload| {
        let mapping = PortMapping { service_port: 80, target_port: 5432 };
        Arc::make_mut(&mut w.services).insert(service.key.clone(), vec![mapping]);
        w.policies = vec!["shop/db-from-web".parse().unwrap(), "shop/db-trial".parse().unwrap()];
    };
    let mut db = pod("db-0", "db", "10.0.2.1", "node-2", Tunnel::Hbone);
    behind(&mut db);
    let mut sick = pod("db-1", "db", "10.0.2.2", "node-2", Tunnel::Hbone);
    behind(&mut sick);
    sick.health = Health::Unhealthy;
    let boxed = |w| Delta::Workload(Box::new(w));
    vec![
        Delta::Service(service.clone()),
        boxed(db),
        boxed(sick),
        boxed(pod("web-0", "web", "10.0.1.1", "node-1", Tunnel::Hbone)),
        boxed(pod("cart-0", "cart", "10.0.1.2", "node-1", Tunnel::Hbone)),
        boxed(pod("old-0", "old", "10.0.1.9", "node-1", Tunnel::None)),
        Delta::Policy(policy("db-from-web", Action::Allow, false, "web", 5432)),
        Delta::Policy(policy("db-trial", Action::Deny, true, "web", 5432)),
    ]
}

fn connections(snapshots: &SnapshotStore, telemetry: &Arc<Telemetry>) -> Vec<Record> {
    let snapshot = snapshots.load();
    let worker = telemetry.worker(0);
    let known = |name: &str| snapshot.workload(&format!("Kubernetes//Pod/shop/{name}")).cloned();
    let facts = |path, direction, source: &str, from: &str, destination: &str, to: &str| {
        let mut f = Facts::new(direction, from.parse().unwrap(), to.parse().unwrap());
        f.path = path;
        (f.source, f.destination) = (known(source), known(destination));
        if path != Path::Plain {
            f.source_identity = f.source.as_ref().map(|w| w.identity());
            f.destination_identity = f.destination.as_ref().map(|w| w.identity());
        }
        f
    };
    let old = Instant::now().checked_sub(Duration::from_secs(3_670)).unwrap();
    let mut tunnelled =
        facts(Path::Tunnel, Direction::Outbound, "web-0", "10.0.1.1:40000", "db-0", "10.0.2.1:5432");
    tunnelled.service = snapshot.services().next().cloned();
    tunnelled.hbone_addr = Some("10.0.2.1:15008".parse().unwrap());
    let tunnelled = worker.record_since(tunnelled, old);
    tunnelled.counters().set_totals(1_500, 3 << 20);
    let direct = worker.record_since(
        facts(Path::Direct, Direction::Inbound, "web-0", "10.0.1.1:40001", "cart-0", "10.0.1.2:8080"),
        old + Duration::from_secs(1),
    );
    direct.counters().set_totals(10, 20);
    direct.counters().set_tcp(85, 2);
    let plain = worker.record_since(
        facts(Path::Plain, Direction::Inbound, "", "192.0.2.7:55555", "web-0", "10.0.1.1:80"),
        old + Duration::from_secs(2),
    );
    let records = vec![tunnelled, direct, plain];
    records.iter().for_each(Record::open);
    let mut denied =
        facts(Path::Tunnel, Direction::Inbound, "cart-0", "10.0.1.2:40002", "web-0", "10.0.1.1:80");
    denied.policy = Some("shop/web-only".parse().unwrap());
    worker.record(denied).finish(Reason::PolicyDenied);
    records
}
