//! What deciding costs with ten thousand of everything, against looking at each of them.

use super::session::{Session, Side};
use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{hint::black_box, net::IpAddr, net::Ipv4Addr, net::SocketAddr, sync::Arc, time::Instant};
use weft_model::{
    Delta, Identity, NetworkAddress, Policy, PolicyKey, Service, ServiceKey, Snapshot, SnapshotStore,
    Workload,
    decide::{self, Outbound},
    policy::{Action, Clause, Connection, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch},
    service::ServicePort,
    workload::{Health, PortMapping, Tunnel},
};

const ENDPOINT: &str = "decide.endpoint_of_10k";
const POLICIES: &str = "decide.policies_10k";

/// How many endpoints, and how many policies.
const MANY: usize = 10_000;
/// Decisions in one run. A linear scan takes ten thousand times as long, so it gets fewer.
const DECISIONS: usize = 100_000;
const SCANS: usize = 200;
const NAMESPACE: &str = "shop";
const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);

/// Runs what was asked for.
pub fn run(session: &mut Session) -> Result<()> {
    session.attempt(&[ENDPOINT], endpoints)?;
    session.attempt(&[POLICIES], policies)?;
    Ok(())
}

fn endpoints(session: &mut Session) -> Result<()> {
    session.progress("picking one endpoint of 10,000")?;
    let store = SnapshotStore::default();
    let mut deltas = vec![Delta::Service(service())];
    deltas.extend((0..MANY).map(|n| Delta::Workload(Box::new(workload(n)))));
    store.apply(deltas);
    let snapshot = store.load();
    let source = workload(0);
    let mut random = SmallRng::seed_from_u64(1);
    let decided = decide::outbound(&snapshot, &source, VIP, random.random());
    ensure!(matches!(decided, Outbound::Tunnel(_)), "the service was not reached: {decided:?}");
    ensure!(scan_endpoints(&snapshot, 7).is_some(), "the scan found no endpoint");
    for _ in 0..session.extent.runs {
        let scan = microseconds(SCANS, || scan_endpoints(&snapshot, random.random()));
        session.record(ENDPOINT, Side::Bare, scan);
        let decide = microseconds(DECISIONS, || decide::outbound(&snapshot, &source, VIP, random.random()));
        session.record(ENDPOINT, Side::Mesh, decide);
    }
    session.note(ENDPOINT, "bare: all workloads filtered for the service, one chosen".into());
    Ok(())
}

/// What a proxy does that keeps no list of a service's endpoints: filters all workloads, then chooses.
fn scan_endpoints(snapshot: &Snapshot, rand: u64) -> Option<Arc<Workload>> {
    let service = snapshot.service_at(&NetworkAddress::new("".into(), VIP.ip()))?;
    let key = &service.service.key;
    let usable = snapshot.workloads().filter(|workload| {
        workload.health == Health::Healthy && workload.target_port(key, VIP.port()).is_some()
    });
    let usable: Vec<_> = usable.collect();
    let chosen = usable.get(rand as usize % usable.len().max(1))?;
    Some(Arc::clone(chosen))
}

fn policies(session: &mut Session) -> Result<()> {
    session.progress("evaluating 10,000 policies")?;
    let store = SnapshotStore::default();
    let mut deltas: Vec<_> = (0..MANY).map(|n| Delta::Policy(policy(n))).collect();
    deltas.push(Delta::Workload(Box::new(workload(0))));
    store.apply(deltas);
    let snapshot = store.load();
    let held = snapshot.workload("Kubernetes//Pod/shop/web-0").context("the workload is not known")?.clone();
    let mut random = SmallRng::seed_from_u64(2);
    let callers: Vec<_> =
        (0..MANY).map(|n| Identity::new("cluster.local", format!("team-{n}"), "app")).collect();
    let mut agree = 0;
    for caller in callers.iter().step_by(97) {
        let c = connection(caller);
        let allowed = decide::inbound(&snapshot, &held, &c).is_allowed();
        ensure!(allowed == scan_policies(&snapshot, &c), "index and scan disagree about {caller}");
        agree += usize::from(allowed);
    }
    ensure!(agree > 0, "no caller was allowed: the policies test nothing");
    for _ in 0..session.extent.runs {
        let mut caller = || &callers[random.random_range(0..MANY)];
        let scan = microseconds(SCANS, || scan_policies(&snapshot, &connection(caller())));
        session.record(POLICIES, Side::Bare, scan);
        let decide =
            microseconds(DECISIONS, || decide::inbound(&snapshot, &held, &connection(caller())).is_allowed());
        session.record(POLICIES, Side::Mesh, decide);
    }
    session.note(POLICIES, "bare: every policy of the namespace evaluated in turn, DENY first".into());
    Ok(())
}

/// What a proxy does that keeps no index: asks each policy in turn.
fn scan_policies(snapshot: &Snapshot, c: &Connection<'_>) -> bool {
    let of = |action| snapshot.policies().filter(move |policy| policy.action == action);
    !of(Action::Deny).any(|policy| policy.matches(c)) && of(Action::Allow).any(|policy| policy.matches(c))
}

/// The mean time of one call, in µs, over `calls` of them.
fn microseconds<T>(calls: usize, mut call: impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    start.elapsed().as_secs_f64() * 1e6 / calls as f64
}

fn connection(caller: &Identity) -> Connection<'_> {
    Connection {
        identity: Some(caller),
        source_ip: Ipv4Addr::new(10, 244, 7, 9).into(),
        destination_ip: Ipv4Addr::new(10, 244, 0, 1).into(),
        destination_port: 8080,
    }
}

fn service_key() -> ServiceKey {
    ServiceKey { namespace: NAMESPACE.into(), hostname: "web.shop.svc.cluster.local".into() }
}

fn service() -> Service {
    let mut service = Service::new(NAMESPACE, "web", service_key().hostname);
    service.addresses = vec![NetworkAddress::new("".into(), VIP.ip())];
    service.ports = vec![ServicePort { service_port: VIP.port(), target_port: 8080 }];
    service
}

/// The `n`th of the pods behind the service; one in sixteen is not ready.
fn workload(n: usize) -> Workload {
    let name = format!("web-{n}");
    let mut workload = Workload::new(format!("Kubernetes//Pod/{NAMESPACE}/{name}"), NAMESPACE, name, "web");
    let [_, _, high, low] = (n as u32).to_be_bytes();
    workload.addresses = vec![Ipv4Addr::new(10, 244, high, low).into()];
    workload.node = format!("node-{}", n % 100).into();
    workload.tunnel = Tunnel::Hbone;
    workload.health = if n % 16 == 1 { Health::Unhealthy } else { Health::Healthy };
    let ports = vec![PortMapping { service_port: VIP.port(), target_port: 8080 }];
    Arc::make_mut(&mut workload.services).insert(service_key(), ports);
    workload
}

/// The `n`th policy of the namespace: a mix of what teams write, about one in ten of them a DENY.
fn policy(n: usize) -> Policy {
    let exact = |s: String| StringMatch::Exact(s.into());
    let team = format!("team-{n}");
    let from = match n % 8 {
        0..3 => {
            Match { principals: vec![exact(format!("cluster.local/ns/{team}/sa/app"))], ..Match::default() }
        }
        3..5 => Match { namespaces: vec![exact(team)], ..Match::default() },
        5 => Match {
            service_accounts: vec![ServiceAccountMatch {
                namespace: team.into(),
                service_account: "app".into(),
            }],
            ..Match::default()
        },
        6 => Match { source_ips: blocks(n, 32), ..Match::default() },
        _ => Match { source_ips: blocks(n, 24), ..Match::default() },
    };
    let to = Match { destination_ports: vec![8080, 8443], ..Match::default() };
    let clauses = vec![Clause { matches: vec![from] }, Clause { matches: vec![to] }];
    Policy {
        key: PolicyKey { namespace: NAMESPACE.into(), name: format!("policy-{n}").into() },
        scope: PolicyScope::Namespace,
        action: if n.is_multiple_of(11) { Action::Deny } else { Action::Allow },
        dry_run: false,
        rules: vec![Rule { clauses }],
    }
}

/// An address block of a network that no caller here comes from.
fn blocks(n: usize, prefix: u8) -> Vec<ipnet::IpNet> {
    let [_, _, high, low] = (n as u32).to_be_bytes();
    ipnet::IpNet::new(Ipv4Addr::new(172, high, low, 0).into(), prefix).into_iter().collect()
}
