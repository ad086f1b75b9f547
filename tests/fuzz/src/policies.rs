//! The indexed evaluation of policies against their plain definition.

use std::net::IpAddr;
use weft_model::{
    Identity, Policy, PolicyKey, Reason, Snapshot, Workload,
    decide::inbound,
    policy::{Action, Connection, Match, PolicyScope, StringMatch},
};

/// The connections tried for one set of policies; more would slow the fuzzer without telling it more.
const MOST_CONNECTIONS: usize = 512;

/// Checks that `inbound` decides as a reading of Istio's rules, policy by policy, would: on connections made of what the
/// policies themselves name.
pub fn check_verdicts(snapshot: &Snapshot, workload: &Workload, policies: &[Policy]) {
    let Subjects { identities, ips, ports } = Subjects::of(policies);
    let mut tried = 0;
    for identity in &identities {
        for source_ip in &ips {
            for destination_ip in &ips {
                for destination_port in &ports {
                    let connection = Connection {
                        identity: identity.as_ref(),
                        source_ip: *source_ip,
                        destination_ip: *destination_ip,
                        destination_port: *destination_port,
                    };
                    check(snapshot, workload, policies, &connection);
                    tried += 1;
                    if tried == MOST_CONNECTIONS {
                        return;
                    }
                }
            }
        }
    }
}

fn check(snapshot: &Snapshot, workload: &Workload, policies: &[Policy], connection: &Connection<'_>) {
    let verdict = inbound(snapshot, workload, connection);
    let known = |key: &PolicyKey| snapshot.policy(key).is_some();
    if let Some(unknown) = verdict.policy.as_ref().filter(|key| !known(key)) {
        assert_eq!(verdict.refused, Some(Reason::PolicyUnknown));
        assert!(workload.policies.contains(unknown), "{unknown} is not one that the workload names");
        return;
    }
    let in_force = |action| {
        let holds = move |p: &&Policy| p.action == action && !p.dry_run && holds_for(p, workload);
        policies.iter().filter(holds)
    };
    let denied = in_force(Action::Deny).any(|p| p.matches(connection));
    let nothing_allows = in_force(Action::Allow).next().is_none();
    let allowed = nothing_allows || in_force(Action::Allow).any(|p| p.matches(connection));
    let open = workload.policies.iter().all(known);
    assert_eq!(verdict.is_allowed(), open && !denied && allowed, "{verdict:?} for {connection:?}");
    if let Some(key) = &verdict.policy {
        let decided = policies.iter().find(|p| p.key == *key).expect("a policy that exists");
        assert!(decided.matches(connection) && !decided.dry_run, "{key} did not decide {connection:?}");
    }
    if let Some(key) = &verdict.dry_run {
        let told = policies.iter().find(|p| p.key == *key).expect("a policy that exists");
        assert!(told.matches(connection) && told.dry_run, "{key} is not in dry run");
    }
    for policy in policies {
        check_principals(policy, connection);
    }
}

fn holds_for(policy: &Policy, workload: &Workload) -> bool {
    match policy.scope {
        PolicyScope::Global => true,
        PolicyScope::Namespace => policy.key.namespace == workload.namespace,
        PolicyScope::Selector => workload.policies.contains(&policy.key),
    }
}

/// A principal is compared piece by piece; written out and compared as a text it must give the same.
fn check_principals(policy: &Policy, connection: &Connection<'_>) {
    let Some(identity) = connection.identity else { return };
    let principal = identity.principal();
    for pattern in matches(policy).flat_map(|m| &m.principals) {
        let alone = Match { principals: vec![pattern.clone()], ..Match::default() };
        assert_eq!(
            alone.matches(connection),
            pattern.matches(Some(&principal)),
            "{pattern:?} on {principal}"
        );
    }
}

fn matches(policy: &Policy) -> impl Iterator<Item = &Match> {
    policy.rules.iter().flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.matches)
}

/// What connections are made of.
struct Subjects {
    identities: Vec<Option<Identity>>,
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Subjects {
    fn of(policies: &[Policy]) -> Self {
        let mut identities = vec![None, Some(Identity::new("cluster.local", "shop", "web"))];
        let mut ips = vec![IpAddr::from([10, 0, 0, 1])];
        let mut ports = vec![80];
        for m in policies.iter().flat_map(matches) {
            for account in m.service_accounts.iter().chain(&m.not_service_accounts) {
                let (namespace, name) = (account.namespace.clone(), account.service_account.clone());
                identities.push(Some(Identity::new("cluster.local", namespace, name)));
            }
            for pattern in m.namespaces.iter().chain(&m.not_namespaces) {
                if let StringMatch::Exact(s) | StringMatch::Prefix(s) | StringMatch::Suffix(s) = pattern {
                    identities.push(Some(Identity::new("cluster.local", s.clone(), "web")));
                }
            }
            for pattern in m.principals.iter().chain(&m.not_principals) {
                if let StringMatch::Exact(s) = pattern {
                    identities.extend(format!("spiffe://{s}").parse().ok().map(Some));
                }
            }
            let nets = m.source_ips.iter().chain(&m.not_source_ips);
            ips.extend(nets.chain(&m.destination_ips).chain(&m.not_destination_ips).map(|n| n.addr()));
            ports.extend(m.destination_ports.iter().chain(&m.not_destination_ports));
        }
        identities.sort();
        identities.dedup();
        for list in [&mut ips] {
            list.sort();
            list.dedup();
        }
        ports.sort_unstable();
        ports.dedup();
        Self { identities, ips, ports }
    }
}
