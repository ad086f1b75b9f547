//! Golden files: manifests in, deltas and findings out. `WEFT_BLESS=1` writes what comes out as what is expected.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use serde::Deserialize;
use serde_json::{Value, json};
use std::{fs, path::Path};
use weft_api::{Object, Parsed};
use weft_index::{Change, Index, IndexConfig};

fn objects(text: &str) -> Vec<Change> {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(|d| Value::deserialize(d).unwrap());
    let parse = |value| match Object::parse(value).unwrap() {
        Parsed::Object(object, unknown) => {
            assert!(unknown.is_empty(), "{unknown:?}");
            Change::Put(object)
        }
        Parsed::Foreign { kind } => panic!("{kind}"),
    };
    documents.filter(|d| !d.is_null()).map(parse).collect()
}

#[test]
fn every_case_gives_what_is_expected() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut cases: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    cases.sort();
    assert!(cases.len() >= 6, "{cases:?}");
    for case in cases {
        let mut index = Index::new(IndexConfig::default());
        let changes = objects(&fs::read_to_string(&case).unwrap());
        let deltas = index.apply(changes.clone());
        let findings: Vec<String> = index.findings().iter().map(ToString::to_string).collect();
        let told = json!({ "deltas": deltas, "findings": findings });
        let golden = case.with_extension("json");
        if std::env::var_os("WEFT_BLESS").is_some() {
            fs::write(&golden, serde_json::to_string_pretty(&told).unwrap() + "\n").unwrap();
        }
        let expected: Value = serde_json::from_str(&fs::read_to_string(&golden).unwrap()).unwrap();
        assert_eq!(told, expected, "{}", case.display());
        assert_eq!(index.apply(changes), [], "{}: the same again is no change", case.display());
    }
}
