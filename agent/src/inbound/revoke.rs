//! Connections that were allowed once and no longer are.

use super::authorize::authorize;
use weft_io::telemetry::{Connections, Direction, Facts, Live, Path};
use weft_model::{Reason, Snapshot, SnapshotStore};

/// Asks every live connection to close that `snapshot` would refuse now; answers how many that are.
///
/// Those that are still allowed notice nothing.
pub fn revoke(snapshot: &Snapshot, connections: &Connections) -> usize {
    connections.close_where(|facts| is_refused(snapshot, facts).then_some(Reason::PolicyChanged))
}

/// Why a connection that was allowed by the snapshot of version `asked` may not begin after all: the state of the mesh has
/// moved on since, and refuses it.
///
/// To be asked once the connection's record is in the table. A change before that moment is seen here, and a later one finds
/// the record by [`revoke`]; without this question a change between the two would be missed by both.
pub fn overtaken(store: &SnapshotStore, asked: u64, connection: &Live) -> Option<Reason> {
    let now = store.load();
    let refused = now.version != asked && connection.with_facts(|facts| is_refused(&now, facts));
    refused.then_some(Reason::PolicyChanged)
}

/// Outbound connections are judged where they arrive; what the kernel joined directly has both ends here.
fn is_refused(snapshot: &Snapshot, facts: &Facts) -> bool {
    if facts.direction == Direction::Outbound && facts.path != Path::Direct {
        return false;
    }
    let Some(workload) = facts.destination.as_ref().and_then(|w| snapshot.workload(&w.uid)) else {
        return false;
    };
    let (identity, ip) = (facts.source_identity.as_ref(), facts.source_addr.ip());
    !authorize(snapshot, workload, identity, ip, facts.destination_addr).is_allowed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use weft_io::telemetry::{AccessLog, Config, Telemetry};
    use weft_model::{
        Delta, Identity, Policy, PolicyKey, Workload,
        policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
    };

    fn with_a_database() -> SnapshotStore {
        let store = SnapshotStore::default();
        let mut db = Workload::new("k//Pod/shop/db", "shop", "db", "db");
        db.addresses = vec!["10.0.0.2".parse().unwrap()];
        store.apply(vec![Delta::Workload(Box::new(db))]);
        store
    }

    fn facts(store: &SnapshotStore, client: &str) -> Facts {
        let mut facts = Facts::new(
            Direction::Inbound,
            "10.0.0.1:4000".parse().unwrap(),
            "10.0.0.2:5432".parse().unwrap(),
        );
        facts.destination = store.load().workload("k//Pod/shop/db").cloned();
        facts.source_identity = Some(Identity::new("cluster.local", "shop", client));
        facts
    }

    fn deny(principal: &str) -> Delta {
        let matches =
            vec![Match { principals: vec![StringMatch::Exact(principal.into())], ..Match::default() }];
        Delta::Policy(Policy {
            key: PolicyKey { namespace: "shop".into(), name: "no".into() },
            scope: PolicyScope::Namespace,
            action: Action::Deny,
            dry_run: false,
            rules: vec![Rule { clauses: vec![Clause { matches }] }],
        })
    }

    #[test]
    fn a_change_between_the_verdict_and_the_record_is_not_missed() {
        let store = with_a_database();
        let telemetry = Telemetry::new(&Config::default(), AccessLog::off());
        let worker = Arc::clone(&telemetry).worker(0);
        let asked = store.load().version;
        store.apply(vec![deny("cluster.local/ns/shop/sa/web")]);
        // The walk for this change is over before the connection is in the table.
        assert_eq!(revoke(&store.load(), &telemetry.connections), 0);
        let (web, cart) = (worker.record(facts(&store, "web")), worker.record(facts(&store, "cart")));
        assert_eq!(overtaken(&store, asked, web.live()), Some(Reason::PolicyChanged));
        assert_eq!(overtaken(&store, asked, cart.live()), None);
    }

    #[test]
    fn only_what_the_new_policies_refuse_is_closed() {
        let store = with_a_database();
        let telemetry = Telemetry::new(&Config::default(), AccessLog::off());
        let worker = Arc::clone(&telemetry).worker(0);
        let (web, cart) = (worker.record(facts(&store, "web")), worker.record(facts(&store, "cart")));
        assert_eq!(revoke(&store.load(), &telemetry.connections), 0);
        store.apply(vec![deny("cluster.local/ns/shop/sa/web")]);
        assert_eq!(revoke(&store.load(), &telemetry.connections), 1);
        assert_eq!(web.live().requested(), Some(Reason::PolicyChanged));
        assert_eq!(cart.live().requested(), None);
    }
}
