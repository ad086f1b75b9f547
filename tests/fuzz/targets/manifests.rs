//! A file of manifests, as people write them: what the control plane makes of it is the same however it comes in, can be
//! sent to nodes as it is, and is gone when the objects are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use weft_control::source::directory::{Contents, read_file};
use weft_fuzz::state::State;
use weft_index::{Change, Index, IndexConfig};
use weft_io::discovery::convert::{decode, encode};
use weft_model::Delta;

fuzz_target!(|data: &[u8]| {
    let Contents { objects, findings } = read_file(&weft_fuzz::file::holding(data));
    for finding in &findings {
        assert!(!finding.message.is_empty() && !finding.mend.is_empty(), "{finding}");
    }
    let puts: BTreeMap<_, _> =
        objects.iter().map(|(key, object)| (key, Change::Put(Box::new((**object).clone())))).collect();

    let mut index = Index::new(IndexConfig::default());
    let mut at_once = State::default();
    for delta in index.apply(puts.values().cloned()) {
        check_sendable(&delta);
        at_once.apply(delta);
    }
    let findings = index.findings();
    assert_eq!(index.apply(puts.values().cloned()), [], "the same objects again");

    let mut slow = Index::new(IndexConfig::default());
    let mut one_by_one = State::default();
    for change in puts.values() {
        slow.apply([change.clone()]).into_iter().for_each(|delta| one_by_one.apply(delta));
    }
    assert_eq!(at_once, one_by_one);
    assert_eq!(findings, slow.findings());

    let gone = index.apply(objects.keys().cloned().map(Change::Gone));
    gone.into_iter().for_each(|delta| at_once.apply(delta));
    assert_eq!(at_once, State::default());
    assert_eq!(index.findings(), []);
});

/// A node takes it in as it was meant.
fn check_sendable(delta: &Delta) {
    if let Some((kind, resource)) = encode(delta) {
        assert_eq!(decode(kind, &resource).as_ref(), Ok(delta));
    }
}
