//! An object as the Kubernetes API sends it: what is dropped of it while it is read changes nothing of what the fold makes of
//! it, and never makes a bad object of a good one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weft_api::{Kind, Object, Parsed};
use weft_control::source::kube::{manifest, resource_of};
use weft_index::{Change, Index, IndexConfig};

fuzz_target!(|data: &[u8]| {
    let Some((first, json)) = data.split_first() else { return };
    let kind = Kind::ALL[usize::from(*first) % Kind::ALL.len()];
    let Ok(left) = manifest(kind, json) else { return };
    let (Ok(Value::Object(mut whole)), Value::Object(_)) = (serde_json::from_slice(json), &left) else { return };
    let resource = resource_of(kind);
    let version = match resource.group {
        "" => resource.version.to_owned(),
        group => format!("{group}/{}", resource.version),
    };
    whole.insert("apiVersion".into(), version.into());
    whole.insert("kind".into(), kind.as_str().into());
    match (Object::parse(Value::Object(whole)), Object::parse(left)) {
        (Ok(Parsed::Object(whole, _)), Ok(Parsed::Object(left, _))) => {
            let make = |object| Index::new(IndexConfig::default()).apply([Change::Put(object)]);
            assert_eq!(make(whole), make(left));
        }
        (Ok(whole), Err(left)) => panic!("{whole:?} became unreadable: {left}"),
        // What is wrong may be in what nobody reads.
        (Err(_), _) => {}
        (Ok(_), Ok(other)) => panic!("another kind: {other:?}"),
    }
});
