//! The wire is locked: agents and control of two releases speak together, so what one of them reads must not come to mean
//! something else in the other. `proto/wire.lock` says what every field, value and method is; what is added must be added
//! there, and what is there stays.
//!
//! After an addition: `WEFT_WIRE_LOCK=add cargo test -p weft-io --test wire`.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "wire/lock.rs"]
mod lock;

use lock::Lock;
use std::{fs, path::Path};
use weft_io::discovery::convert::Kind;

/// Every interface that programs of two versions may meet on: directories and their files.
const INTERFACES: [(&str, &[&str]); 2] = [
    ("proto", &["discovery", "workload", "authorization", "ca", "cache", "node"]),
    // The command line asks agents of a whole cluster.
    ("../../agent/proto", &["admin"]),
];

fn now() -> Lock {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lock = Lock::default();
    for (dir, files) in INTERFACES {
        let dir = root.join(dir);
        let all: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "proto"))
            .collect();
        assert_eq!(all.len(), files.len(), "an interface is not locked: {all:?}");
        let files = files.iter().map(|file| dir.join(file).with_extension("proto"));
        lock.add(&protox::compile(files, [&dir]).unwrap());
    }
    lock
}

#[test]
fn what_others_read_stays_what_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/wire.lock");
    let now = now();
    let locked = Lock::parse(&fs::read_to_string(&path).unwrap_or_default()).unwrap();
    let broken = locked.broken_by(&now);
    assert!(
        broken.is_empty(),
        "an agent or a control of another release would misread this; give a field another number instead, and reserve the \
         one that is taken away:\n{}",
        broken.join("\n")
    );
    if std::env::var_os("WEFT_WIRE_LOCK").is_some_and(|wish| wish == "add") {
        fs::write(&path, now.to_string()).unwrap();
        return;
    }
    assert!(
        locked == now,
        "the wire has something new, which is fine; lock it: WEFT_WIRE_LOCK=add cargo test -p weft-io --test wire"
    );
}

#[test]
fn every_type_of_resource_is_locked_under_its_name() {
    let locked = now().to_string();
    for kind in Kind::ALL {
        let name = kind.type_url().strip_prefix("type.googleapis.com/").unwrap();
        assert!(locked.contains(&format!("message {name}\n")), "{name}");
    }
}

#[test]
fn a_change_that_another_release_would_misread_is_found() {
    const BEFORE: &str =
        "message M { string a = 1; uint32 b = 2; reserved 5; oneof o { bool c = 3; } map<string, E> d = 4; }
        enum E { ZERO = 0; ONE = 1; }
        service S { rpc Call(M) returns (stream M); }";
    let locked = Lock::parse(&compiled(BEFORE).to_string()).unwrap();
    assert!(locked == compiled(BEFORE), "what is written is read again");
    for (from, to, named) in [
        ("uint32 b = 2", "uint64 b = 2", "m.M 2"),
        ("uint32 b = 2", "repeated uint32 b = 2", "m.M 2"),
        ("uint32 b = 2", "optional uint32 b = 2", "m.M 2"),
        ("uint32 b = 2", "uint32 b = 6", "m.M 2"),
        ("uint32 b = 2;", "", "m.M 2"),
        ("uint32 b = 2;", "string e = 2;", "m.M 2"),
        ("oneof o { bool c = 3; }", "bool c = 3;", "m.M 3"),
        ("map<string, E> d", "map<string, string> d", "m.M.DEntry 2"),
        ("reserved 5;", "string e = 5;", "m.M 5"),
        ("ONE = 1", "ONE = 2", "m.E 1"),
        ("ONE = 1", "TWO = 1", "m.E 1"),
        ("returns (stream M)", "returns (M)", "m.S Call"),
        ("service S", "service T", "m.S"),
    ] {
        let after = BEFORE.replace(from, to);
        assert_ne!(after, BEFORE);
        let broken = locked.broken_by(&compiled(&after));
        assert!(broken.iter().any(|line| line.contains(named)), "{to}: {broken:?}");
    }
    for (from, to) in [
        ("string a = 1;", "string a = 1; string e = 6;"),
        ("ONE = 1;", "ONE = 1; TWO = 2;"),
        ("enum E", "message N { M m = 1; } enum E"),
        ("uint32 b = 2; reserved 5;", "reserved 2, 5;"),
        ("ONE = 1;", "reserved 1;"),
    ] {
        let after = BEFORE.replace(from, to);
        assert_ne!(after, BEFORE);
        let now = compiled(&after);
        assert_eq!(locked.broken_by(&now), Vec::<String>::new(), "{to}");
        assert!(locked != now, "{to}: it must be added to the lock");
    }
}

fn compiled(body: &str) -> Lock {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.proto");
    fs::write(&path, format!("syntax = \"proto3\"; package m; {body}")).unwrap();
    let mut lock = Lock::default();
    lock.add(&protox::compile([&path], [dir.path()]).unwrap());
    lock
}
