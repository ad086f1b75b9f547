use super::*;
use serde_json::{Value, json};

fn pod(namespace: &str, name: &str, host: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": {"app": name}},
        "spec": {"nodeName": "n1", "hostNetwork": host,
                 "containers": [{"name": "c", "ports": [{"name": "sql", "containerPort": 5432}]}]},
    }))
    .unwrap()
}

fn policy(namespace: &str, name: &str, spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec})).unwrap()
}

/// What becomes of web's connection to db, in the namespaces `shop` and `data`, on `port`.
fn judged(policies: &[NetworkPolicy], port: u16) -> Vec<(&'static str, bool, Vec<String>)> {
    let (web, db) = (pod("shop", "web", false), pod("data", "db", false));
    judged_between(policies, &web, &db, port)
}

fn judged_between(
    policies: &[NetworkPolicy],
    from: &Pod,
    to: &Pod,
    port: u16,
) -> Vec<(&'static str, bool, Vec<String>)> {
    let shop = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
    let data = BTreeMap::new();
    let attempt = Attempt {
        from: Side { address: "10.0.0.1".parse().unwrap(), pod: Some(from), namespace_labels: &shop },
        to: Side { address: "10.0.0.2".parse().unwrap(), pod: Some(to), namespace_labels: &data },
        port,
    };
    judge(policies, &attempt).into_iter().map(|v| (v.direction, v.allowed, v.policies)).collect()
}

fn ingress(from: Value, port: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [from], "ports": [{"port": port}]}]})
}

#[test]
fn a_policy_for_the_applications_port_blocks_the_tunnel() {
    let all = [policy("data", "only-sql", ingress(json!({"namespaceSelector": {}}), json!(5432)))];
    assert_eq!(judged(&all, 5432), [("ingress", true, vec!["data/only-sql".to_owned()])]);
    assert_eq!(judged(&all, TUNNEL), [("ingress", false, vec!["data/only-sql".to_owned()])]);
    let verdict = Verdict {
        direction: "ingress",
        pod: "data/db".into(),
        port: TUNNEL,
        allowed: false,
        policies: vec!["data/only-sql".into()],
    };
    assert!(
        verdict.words().contains("BLOCKED: no rule of data/only-sql")
            && verdict.words().contains("TCP 15008")
    );
}

#[test]
fn one_that_allows_is_enough_and_the_blocking_ones_are_all_named() {
    let deny = policy("data", "deny-all", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    let allow = policy(
        "data",
        "web",
        ingress(json!({"namespaceSelector": {"matchLabels": {"team": "shop"}}}), json!(80)),
    );
    let elsewhere = policy("shop", "elsewhere", json!({"podSelector": {"matchLabels": {"app": "db"}}}));
    let all = [deny, allow, elsewhere];
    assert_eq!(judged(&all, 80), [("ingress", true, vec!["data/web".to_owned()])]);
    assert_eq!(
        judged(&all, 81),
        [("ingress", false, vec!["data/deny-all".to_owned(), "data/web".to_owned()])]
    );
}

#[test]
fn egress_counts_only_where_it_is_meant() {
    let ingress_only = policy("shop", "in", json!({"podSelector": {}}));
    assert_eq!(judged(std::slice::from_ref(&ingress_only), 80), []);
    let to = |block: Value| {
        policy("shop", "out", json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": block}]}]}))
    };
    assert_eq!(
        judged(&[to(json!({"cidr": "10.0.0.0/8"}))], 80),
        [("egress", true, vec!["shop/out".to_owned()])]
    );
    let except = to(json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.2/32"]}));
    assert_eq!(judged(&[except], 80), [("egress", false, vec!["shop/out".to_owned()])]);
}

#[test]
fn a_pod_selector_alone_means_pods_of_the_policys_namespace() {
    let all =
        [policy("data", "p", ingress(json!({"podSelector": {"matchLabels": {"app": "web"}}}), json!(80)))];
    assert!(!judged(&all, 80)[0].1);
    let both = json!({"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {}});
    assert!(judged(&[policy("data", "p", ingress(both, json!(80)))], 80)[0].1);
}

#[test]
fn ports_have_names_and_ranges_and_protocols() {
    let with = |port: Value| {
        let rule = json!({"podSelector": {}, "ingress": [{"ports": [port]}]});
        judged(&[policy("data", "p", rule)], 5432)[0].1
    };
    assert!(with(json!({"port": "sql"})) && !with(json!({"port": "http"})));
    assert!(with(json!({"port": 5000, "endPort": 6000})) && !with(json!({"port": 5000, "endPort": 5400})));
    assert!(
        with(json!({}))
            && !with(json!({"protocol": "UDP"}))
            && with(json!({"port": 5432, "protocol": "TCP"}))
    );
}

#[test]
fn the_nodes_own_and_a_pods_own_connections_are_free() {
    let deny = [
        policy("data", "deny", json!({"podSelector": {}})),
        policy("kube", "deny", json!({"podSelector": {}})),
    ];
    let (host, db) = (pod("kube", "probe", true), pod("data", "db", false));
    assert_eq!(judged_between(&deny, &host, &db, 80), []);
    assert_eq!(judged_between(&deny, &db, &db, 80), []);
    let mut far = host.clone();
    far.spec.as_mut().unwrap().node_name = Some("n2".into());
    assert!(!judged_between(&deny, &far, &db, 80)[0].1);
    assert_eq!(judged_between(&deny, &db, &host, 80), []);
}
