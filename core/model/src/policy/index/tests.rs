use super::*;
use crate::{
    Identity, PolicyKey,
    policy::{Action, PolicyScope, ServiceAccountMatch},
};

/// A small deterministic generator: the test must fail the same way twice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }

    fn list<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.roll(3).saturating_sub(1)).map(|_| make(self)).collect()
    }
}

fn string(d: &mut Dice, whole: &str) -> StringMatch {
    match d.roll(6) {
        0 => StringMatch::Prefix(whole[..whole.len() / 2].into()),
        1 => StringMatch::Suffix(whole[whole.len() / 2..].into()),
        2 => StringMatch::Presence,
        _ => StringMatch::Exact(whole.into()),
    }
}

fn identity(d: &mut Dice) -> Identity {
    Identity::new("cluster.local", format!("ns{}", d.roll(3)), format!("sa{}", d.roll(3)))
}

fn a_match(d: &mut Dice) -> Match {
    let namespace = |d: &mut Dice| {
        let ns = format!("ns{}", d.roll(3));
        string(d, &ns)
    };
    let principal = |d: &mut Dice| {
        let p = identity(d).principal();
        string(d, &p)
    };
    let account = |d: &mut Dice| ServiceAccountMatch {
        namespace: format!("ns{}", d.roll(3)).into(),
        service_account: format!("sa{}", d.roll(3)).into(),
    };
    let net = |d: &mut Dice| {
        let len = [0, 8, 24, 31, 32][d.roll(5) as usize];
        format!("10.0.0.{}/{len}", d.roll(3)).parse().unwrap()
    };
    let port = |d: &mut Dice| 80 + d.roll(3) as u16;
    Match {
        namespaces: d.list(namespace),
        not_namespaces: d.list(namespace),
        service_accounts: d.list(account),
        not_service_accounts: d.list(account),
        principals: d.list(principal),
        not_principals: d.list(principal),
        source_ips: d.list(net),
        not_source_ips: d.list(net),
        destination_ports: d.list(port),
        not_destination_ports: d.list(port),
        ..Match::default()
    }
}

fn policy(d: &mut Dice, n: usize) -> Arc<Policy> {
    let rules = (0..d.roll(3))
        .map(|_| Rule {
            clauses: (0..d.roll(3))
                .map(|_| Clause { matches: (0..d.roll(3)).map(|_| a_match(d)).collect() })
                .collect(),
        })
        .collect();
    Arc::new(Policy {
        key: PolicyKey { namespace: "ns".into(), name: n.to_string().into() },
        scope: PolicyScope::Namespace,
        action: Action::Allow,
        dry_run: false,
        rules,
    })
}

#[test]
fn the_index_agrees_with_the_plain_definition() {
    let mut d = Dice(7);
    let mut matched = 0;
    for round in 0..400 {
        let policies: Vec<_> = (0..d.roll(8) as usize).map(|n| policy(&mut d, n)).collect();
        let index = PolicyIndex::new(policies.clone());
        for _ in 0..20 {
            let id = (d.roll(4) > 0).then(|| identity(&mut d));
            let c = Connection {
                identity: id.as_ref(),
                source_ip: format!("10.0.0.{}", d.roll(4)).parse().unwrap(),
                destination_ip: "10.9.9.9".parse().unwrap(),
                destination_port: 80 + d.roll(4) as u16,
            };
            let plain = policies.iter().find(|p| p.matches(&c)).map(|p| &p.key);
            assert_eq!(index.first_match(&c).map(|p| &p.key), plain, "round {round}, {c:?}");
            matched += usize::from(plain.is_some());
        }
    }
    assert!(matched > 1000, "the generator must make policies that match: {matched}");
}
