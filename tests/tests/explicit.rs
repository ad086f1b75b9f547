//! The bookshop without privileges: explicit listeners in place of capture, on loopback.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};
use weft_tests::{Loopback, Manifests};

const MARKER: &str = "a-word-that-nobody-in-between-may-read";

fn bookshop() -> Loopback {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookshop");
    let directory = std::env::temp_dir().join(format!("weft-explicit-{}-{number}", std::process::id()));
    let manifests = Manifests::read(&manifests).expect("the bookshop");
    Loopback::start(manifests, &directory, |_| {}).expect("a mesh on loopback")
}

#[test]
fn calls_through_connect_and_socks_are_encrypted_and_held_to_policy() {
    let mesh = bookshop();
    let get = |from: &str, to: &str| {
        let doors = mesh.doors(from).unwrap();
        [("--connect", doors.connect), ("--socks", doors.socks)].map(|(flag, at)| {
            let header = format!("x-marker: {MARKER}");
            mesh.app(&["get", to, flag, &at.to_string(), "--header", &header]).unwrap()
        })
    };
    for to in ["10.20.2.12:8080", "[fd20:0:0:2::12]:8080", "reviews:80"] {
        for answer in get("bookshop/web", to) {
            assert_eq!(answer["body"]["name"], "reviews", "{answer}");
            assert_eq!(answer["body"]["headers"]["x-marker"], MARKER, "{answer}");
        }
    }
    for refused in get("bookshop/catalog", "10.20.2.13:8080") {
        assert_eq!(refused["ok"], false, "{refused}");
    }
    let wire = mesh.recorder.take();
    assert!(!wire.streams.is_empty());
    assert!(wire.streams.values().all(|stream| stream.is_tls()), "{:?}", wire.streams.keys());
    assert!(!wire.contains(MARKER.as_bytes()));

    let agent = mesh.agent_of("bookshop/payments").unwrap();
    let flows = agent.list(&["flows", "--from", "bookshop/catalog", "--verdict", "denied"]).unwrap();
    assert_eq!(flows.len(), 2, "{flows:?}");
    for flow in flows {
        assert_eq!(flow["connection"]["policy"], "bookshop/payments-never");
        assert_eq!(flow["connection"]["source"]["identity"], "spiffe://cluster.local/ns/bookshop/sa/catalog");
    }
}
