use super::{held::Held, status::Status};
use crate::discovery::{
    convert::{self, Kind},
    proto::discovery::{DeltaDiscoveryResponse, Resource},
};
use weft_model::{Delta, Service, Workload};

fn versioned(delta: &Delta, version: &str) -> Resource {
    let (_, resource) = convert::encode(delta).unwrap();
    Resource { version: version.into(), ..resource }
}

fn response(resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        resources,
        removed_resources: removed.iter().map(ToString::to_string).collect(),
        type_url: Kind::Address.type_url().into(),
        ..DeltaDiscoveryResponse::default()
    }
}

#[test]
fn the_good_apply_and_the_bad_leave_what_was_held() {
    let mut held = Held::default();
    let a = Delta::Workload(Box::new(Workload::new("a", "shop", "a", "x")));
    let b = Delta::Workload(Box::new(Workload::new("b", "shop", "b", "x")));
    let (deltas, refused) = held.take(Kind::Address, response(vec![versioned(&a, "1")], &[]));
    assert_eq!((deltas, refused.len()), (vec![a.clone()], 0));
    let mut broken = versioned(&a, "2");
    broken.resource.as_mut().unwrap().value = vec![0xff];
    let (deltas, refused) = held.take(Kind::Address, response(vec![broken, versioned(&b, "1")], &[]));
    assert_eq!(deltas, vec![b]);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].resource, "a");
    let versions = held.versions(Kind::Address);
    assert_eq!(versions.get("a").map(String::as_str), Some("1"), "the refused version is not announced");
    assert_eq!(versions.len(), 2);
}

#[test]
fn removals_know_what_the_name_stood_for() {
    let mut held = Held::default();
    let w = Delta::Workload(Box::new(Workload::new("shop/odd", "shop", "odd", "x")));
    let s = Delta::Service(Service::new("shop", "web", "web.shop.svc.cluster.local"));
    held.take(Kind::Address, response(vec![versioned(&w, "1"), versioned(&s, "1")], &[]));
    let (deltas, _) = held.take(
        Kind::Address,
        response(vec![], &["shop/odd", "shop/web.shop.svc.cluster.local", "never/heard"]),
    );
    let Delta::Service(s) = s else { unreachable!() };
    assert_eq!(deltas, vec![Delta::WorkloadGone("shop/odd".into()), Delta::ServiceGone(s.key)]);
    assert!(held.versions(Kind::Address).is_empty());
}

#[test]
fn there_is_a_state_when_both_kinds_were_told_to_the_end() {
    let mut status = Status::new("http://control", false);
    status.opened();
    status.answered(Kind::Authorization, true);
    status.answered(Kind::Address, false);
    assert!(!status.has_state() && !status.synced_now(), "policies are still on their way");
    status.answered(Kind::Authorization, false);
    assert!(status.has_state() && status.synced_now());
    status.answered(Kind::Authorization, true);
    assert!(status.has_state(), "later changes take nothing back");
}

#[test]
fn who_asks_for_its_pods_has_a_state_when_it_knows_them() {
    let mut status = Status::new("http://control", true);
    status.restore(7, false);
    assert!(!status.has_state() && !status.has_node_pods(), "a cache without pods is not the whole");
    status.opened();
    status.answered(Kind::Authorization, false);
    status.answered(Kind::Address, false);
    assert!(!status.has_state());
    status.answered(Kind::NodePod, false);
    assert!(status.has_state() && status.has_node_pods() && status.synced_now());
    let mut status = Status::new("http://control", true);
    status.restore(7, true);
    assert!(status.has_state() && status.has_node_pods());
}
