use super::{
    gather::Gather,
    kinds::{self, Shape, resource_of},
    object::Raw,
    state::State,
    trouble::Trouble,
    watch::Told,
};
use serde_json::{Value, json};
use weft_api::{Kind, Object};
use weft_index::{Change, Finding, Severity};

fn raw<S: Shape>(value: Value) -> Raw<S> {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, version: &str, ip: &str) -> Raw<kinds::Pods> {
    raw(json!({
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version,
            "managedFields": [{"manager": "kubelet"}],
            "annotations": {"sidecar.istio.io/status": "{}", "big": "x".repeat(4096)}},
        "spec": {"nodeName": "n1", "volumes": [{"name": "v"}],
            "containers": [{"name": "a", "image": "i", "env": [{"name": "E", "value": "1"}],
                "ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}], "containerStatuses": [{"name": "a"}],
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}]}
    }))
}

fn policy(version: &str, spec: Value) -> Raw<kinds::AuthorizationPolicies> {
    let metadata = json!({"name": "p", "namespace": "shop", "resourceVersion": version});
    raw(json!({"metadata": metadata, "spec": spec}))
}

fn names(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Put(object) if object.is_broken() => format!("~{}", object.key().name),
        Change::Put(object) => format!("+{}", object.key().name),
        Change::Gone(key) => format!("-{}", key.name),
    };
    let mut names: Vec<String> = changes.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn what_nobody_reads_is_dropped_and_what_the_fold_reads_is_not() {
    let raw = pod("web", "1", "10.0.0.1");
    assert_eq!(raw.metadata.resource_version.as_deref(), Some("1"));
    let manifest = raw.into_manifest();
    assert_eq!(
        manifest,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "annotations": {"sidecar.istio.io/status": "{}"}},
            "spec": {"nodeName": "n1",
                "containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}]}
        })
    );
    assert!(Object::parse(manifest).is_ok());
}

#[test]
fn a_list_after_a_gap_yields_the_difference() {
    let mut state = State::<kinds::Pods>::new();
    state.list();
    let first: Vec<Change> =
        ["a", "b", "c"].iter().filter_map(|n| state.put(pod(n, "1", "10.0.0.1"))).collect();
    assert_eq!(names(&first), ["+a", "+b", "+c"]);
    assert!(state.list_done().is_empty());
    // `a` had a heartbeat, `b` another address, `c` is gone, `d` is new.
    state.list();
    let again = [pod("a", "7", "10.0.0.1"), pod("b", "8", "10.0.0.2"), pod("d", "9", "10.0.0.3")];
    let mut changes: Vec<Change> = again.into_iter().filter_map(|raw| state.put(raw)).collect();
    // A list that breaks off tells of nothing that is gone, and the next one starts over.
    state.list();
    assert!(state.put(pod("a", "10", "10.0.0.1")).is_none());
    for name in ["b", "d"] {
        assert!(state.put(pod(name, "10", if name == "b" { "10.0.0.2" } else { "10.0.0.3" })).is_none());
    }
    changes.extend(state.list_done());
    assert_eq!(names(&changes), ["+b", "+d", "-c"]);
    assert_eq!(names(&Vec::from_iter(state.remove(("shop".into(), "a".into())))), ["-a"]);
    assert!(state.remove(("shop".into(), "a".into())).is_none());
}

#[test]
fn a_version_that_cannot_be_read_never_displaces_one_that_can() {
    let mut state = State::<kinds::AuthorizationPolicies>::new();
    let bad = || json!({"rules": [{"fron": []}]});
    // One that could never be read closes what it is about.
    assert_eq!(names(&Vec::from_iter(state.put(policy("1", bad())))), ["~p"]);
    let findings = state.findings();
    assert_eq!((findings.len(), findings[0].severity), (1, Severity::Error));
    assert!(findings[0].message.contains("unknown field `fron`"), "{findings:?}");
    assert_eq!(names(&Vec::from_iter(state.put(policy("2", json!({"rules": [{}]}))))), ["+p"]);
    assert!(state.findings().is_empty());
    assert!(state.put(policy("3", bad())).is_none(), "the last good version stays");
    assert!(state.findings()[0].mend.contains("stays in force"));
    assert_eq!(names(&Vec::from_iter(state.remove(("shop".into(), "p".into())))), ["-p"]);
    assert!(state.findings().is_empty());
}

#[test]
fn a_value_of_another_form_is_left_for_the_parser_to_name() {
    for (odd, field) in [(json!({"containers": "none"}), "spec.containers"), (json!([7]), "spec")] {
        let raw: Raw<kinds::Pods> = raw(json!({"metadata": {"name": "web"}, "spec": odd}));
        assert_eq!(Object::parse(raw.into_manifest()).unwrap_err().field, field);
    }
}

fn told(kind: Kind, changes: Vec<Change>, findings: Option<Vec<Finding>>) -> Told {
    Told { kind, changes, findings, settled: true }
}

#[test]
fn the_first_batch_waits_for_every_kind_and_says_each_trouble_once() {
    let mut gather = Gather::new(&[Kind::Pod, Kind::Service]);
    let mut state = State::<kinds::Pods>::new();
    let put = Vec::from_iter(state.put(pod("a", "1", "10.0.0.1")));
    gather.take(Told { settled: false, ..told(Kind::Pod, put, None) });
    assert!(gather.batch().is_none());
    gather.take(told(Kind::Pod, Vec::new(), None));
    assert!(gather.batch().is_none(), "services are not there");
    gather.take(told(Kind::Service, Vec::new(), None));
    assert_eq!(names(&gather.batch().unwrap().changes), ["+a"]);
    assert!(gather.batch().is_none(), "nothing new");

    // Much of it is told in parts, of which the last one says that it is.
    let mut gather = Gather::new(&[Kind::Pod]);
    let many: Vec<Change> =
        (0..1000).filter_map(|n| state.put(pod(&format!("p{n}"), "1", "10.0.0.1"))).collect();
    gather.take(Told { settled: false, ..told(Kind::Pod, many, None) });
    let part = gather.batch().unwrap();
    assert!(part.more && part.changes.len() == 1000 && gather.batch().is_none());
    gather.take(told(Kind::Pod, Vec::new(), None));
    assert!(!gather.batch().unwrap().more);

    let mut gather = Gather::new(&[Kind::Pod, Kind::Service]);
    gather.take(told(Kind::Pod, Vec::new(), None));
    gather.take(told(Kind::Service, Vec::new(), None));
    gather.batch().unwrap();
    let away = Trouble::Away("connection refused".into());
    for kind in [Kind::Pod, Kind::Service] {
        gather.take(told(kind, Vec::new(), Some(Vec::from_iter(away.finding(kind, true)))));
    }
    let batch = gather.batch().unwrap();
    assert_eq!((batch.changes.len(), batch.findings.len()), (0, 1), "{:?}", batch.findings);
    gather.take(told(Kind::Pod, Vec::new(), Some(Vec::new())));
    gather.take(told(Kind::Service, Vec::new(), Some(Vec::new())));
    assert!(gather.batch().unwrap().findings.is_empty());
}

#[test]
fn a_forbidden_kind_is_named_with_the_rule_that_mends_it() {
    let finding = Trouble::Forbidden("watch").finding(Kind::EndpointSlice, true).unwrap().to_string();
    for part in [
        "control may not watch endpointslices",
        "stays in force",
        r#"{apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"]}"#,
    ] {
        assert!(finding.contains(part), "{part} is not in {finding}");
    }
}

#[test]
fn every_kind_is_where_its_manifests_say_it_is() {
    for kind in Kind::ALL {
        let resource = resource_of(kind);
        let api_version = match resource.group {
            "" => resource.version.to_owned(),
            group => format!("{group}/{}", resource.version),
        };
        assert_eq!(Kind::of(&api_version, kind.as_str()), Some(kind));
    }
}

#[test]
fn the_fold_makes_the_same_of_what_is_left_as_of_the_whole() {
    use serde::Deserialize;
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/index/testdata");
    let (mut files, mut objects) = (0, 0);
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let (mut whole, mut left) = (Vec::new(), Vec::new());
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).unwrap();
            let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
            let Some(kind) = Kind::of(text("apiVersion"), text("kind")) else { continue };
            let trimmed = super::manifest(kind, &serde_json::to_vec(&value).unwrap()).unwrap();
            for (manifest, objects) in [(value, &mut whole), (trimmed, &mut left)] {
                match Object::parse(manifest) {
                    Ok(weft_api::Parsed::Object(object, _)) => objects.push(Change::Put(object)),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => {
                        objects.extend(error.left.map(|l| Change::Put(Box::new(Object::Broken(*l)))))
                    }
                }
            }
        }
        assert_eq!(whole.len(), left.len(), "{}", path.display());
        objects += whole.len();
        let index = || weft_index::Index::new(weft_index::IndexConfig::default());
        let (mut one, mut other) = (index(), index());
        assert_eq!(one.apply(whole), other.apply(left), "{}", path.display());
        assert_eq!(one.findings(), other.findings(), "{}", path.display());
    }
    assert!(files > 5 && objects > 30, "{files} files with {objects} objects");
}
