//! One discovery resource: it is refused with a word, or means the same after being sent on, and can be taken back by
//! its name. The first byte chooses the type of resource, the rest is the message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost_types::Any;
use weft_io::discovery::{
    Kind,
    convert::{decode, encode, gone, kind_of, name_of},
    proto::discovery::Resource,
};
use weft_model::{Delta, SnapshotStore, Workload};

fuzz_target!(|data: &[u8]| {
    let Some((choice, value)) = data.split_first() else { return };
    let kind = [Kind::Address, Kind::Authorization, Kind::NodePod][usize::from(choice % 3)];
    let any = Any { type_url: kind.type_url().to_owned(), value: value.to_vec() };
    let resource = Resource { resource: Some(any), ..Resource::default() };
    let delta = match decode(kind, &resource) {
        Ok(delta) => delta,
        Err(refused) => return weft_fuzz::check_error(&refused),
    };
    assert_eq!(kind_of(&delta), kind);
    check_removal(&delta);
    if let Some((kind, sent)) = encode(&delta) {
        assert_eq!(decode(kind, &sent).as_ref(), Ok(&delta));
        assert_eq!(encode(&delta), Some((kind, sent)), "equal content, unequal bytes");
    }
    if let Delta::Policy(policy) = delta {
        let store = SnapshotStore::default();
        let mut workload = Workload::new("c//Pod/shop/web-0", policy.key.namespace.clone(), "web-0", "web");
        workload.policies = vec![policy.key.clone()];
        store.apply(vec![Delta::Workload(workload.clone().into()), Delta::Policy(policy.clone())]);
        weft_fuzz::policies::check_verdicts(&store.load(), &workload, &[policy]);
    }
});

/// The name under which the control plane would take it back is understood as this and nothing else.
fn check_removal(delta: &Delta) {
    let (entity, name) = name_of(delta);
    let expected = match delta {
        Delta::Workload(w) => Delta::WorkloadGone(w.uid.clone()),
        Delta::Service(s) => Delta::ServiceGone(s.key.clone()),
        Delta::Policy(p) => Delta::PolicyGone(p.key.clone()),
        Delta::NodePod(p) => Delta::NodePodGone(p.uid.clone()),
        gone => gone.clone(),
    };
    assert_eq!(gone(entity, &name), Some(expected), "{name}");
}
