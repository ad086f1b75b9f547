//! The names in `weft-agent explain --from POD --to HOST:PORT`, as they come in over the admin socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{net::Ipv4Addr, sync::LazyLock};
use weft_agent::admin::explain::resolve;
use weft_model::{Delta, NetworkAddress, Service, Snapshot, SnapshotStore, Workload};

/// Two services of one name, and a pod.
static SNAPSHOT: LazyLock<SnapshotStore> = LazyLock::new(|| {
    let service = |namespace: &str| {
        let mut service = Service::new(namespace, "web", format!("web.{namespace}.svc.cluster.local"));
        service.addresses =
            vec![NetworkAddress { network: "".into(), ip: Ipv4Addr::new(10, 1, 0, 1).into() }];
        Delta::Service(service)
    };
    let mut pod = Workload::new("pod", "shop", "web-0", "web");
    pod.addresses = vec![Ipv4Addr::new(10, 0, 0, 1).into()];
    let store = SnapshotStore::default();
    store.apply(vec![service("shop"), service("till"), Delta::Workload(Box::new(pod))]);
    store
});

fuzz_target!(|names: (&str, &str)| {
    let snapshot: &Snapshot = &SNAPSHOT.load();
    match resolve::pod(snapshot, names.0) {
        Ok(pod) => assert_eq!(names.0, format!("{}/{}", pod.namespace, pod.name)),
        Err(error) => weft_fuzz::check_error(&error),
    }
    let source = resolve::pod(snapshot, "shop/web-0").expect("the pod");
    match resolve::target(snapshot, &source, names.1) {
        Ok(address) => assert!(names.1.ends_with(&address.port().to_string()) || address.port() == 0),
        Err(error) => weft_fuzz::check_error(&error),
    }
});
