//! Tokens that end, that name no node, and that nobody reviews: control's own, and those of agents.

use crate::{
    node::Node,
    stage::{Stage, read},
};
use anyhow::{Context, Result, ensure};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};

/// What a token says.
fn claims(token: &str) -> Result<Value> {
    let part = token.trim().split('.').nth(1).context("no token")?;
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part)?)?)
}

/// The same token as the API would have given it out a day ago.
fn expired(stage: &Stage, token: &str) -> Result<String> {
    let mut claims = claims(token)?;
    for field in ["exp", "iat", "nbf"] {
        claims[field] = json!(claims[field].as_i64().context("no time")? - 86_400);
    }
    let head = token.split('.').next().context("no token")?;
    let text = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = PrivatePkcs8KeyDer::from_pem_file(stage.api.token_key()).ok().context("no key of tokens")?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der());
    let key = key.ok().context("the key of tokens is another kind of key")?;
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).ok().context("not signed")?;
    Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

#[test]
fn an_agent_whose_token_ended_is_told_so_and_comes_back_with_another() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    let control = stage.control("one", &[])?;
    let token = stage.token("n1", "weft-control")?;
    let good = read(&token)?;
    fs::write(&token, expired(&stage, &good)?)?;
    let mut node = Node::connect("n1", control.discovery()?, stage.root()?, token.clone());
    node.status("it is told", |s| {
        s.last_error.as_ref().is_some_and(|e| e.contains("does not accept the token"))
    });
    node.status("why", |s| s.last_error.as_ref().is_some_and(|e| e.contains("expired")));
    ensure!(control.metric(r#"weft_control_callers_turned_away_total{reason="refused"}"#)? > 0);
    ensure!(!node.knows("web"));
    // kubelet writes another one into the same file.
    fs::write(&token, good)?;
    node.until("the pod", |s| s.workloads().count() == 1);
    Ok(())
}

#[test]
fn a_token_that_names_no_node_is_that_of_the_node_that_its_pod_is_on() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    let control = stage.control("one", &[])?;
    // The API names the node in tokens since 1.32, but not in one that it gave out before the pod had any.
    let pod = crate::manifests::pod("weft-system", "weft-agent-late", "weft-agent", "");
    stage.kubectl().apply(&pod.replace("  nodeName: \n", ""))?;
    let token = stage.bound_token("weft-system", "weft-agent", "weft-agent-late", "weft-control")?;
    ensure!(claims(&token)?["kubernetes.io"]["node"].is_null(), "{}", claims(&token)?);
    let path = stage.dir.path().join("late.token");
    fs::write(&path, &token)?;
    let mut node = Node::connect("n1", control.discovery()?, stage.root()?, path);
    node.status("it is told", |s| s.last_error.as_ref().is_some_and(|e| e.contains("is on no node")));
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "weft-agent-late", "namespace": "weft-system"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
    });
    let place = ["create", "--raw", "/api/v1/namespaces/weft-system/pods/weft-agent-late/binding", "-f", "-"];
    stage.kubectl().run_with(&place, &binding.to_string())?;
    node.until("the pod", |s| s.workloads().count() == 1);
    // It may have what runs there, and nothing else.
    node.certificate("web")?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    node.until("the other pod", |s| s.workloads().count() == 2);
    ensure!(node.certificate("db").is_err());
    Ok(())
}

#[test]
fn who_may_have_no_token_reviewed_lets_nobody_in() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    let rules = stage.kubectl().json(&["get", "clusterrole", "weft-control"])?["rules"].clone();
    let set = |rules: &Value| {
        let patch = json!({"rules": rules}).to_string();
        stage.kubectl().run(&["patch", "clusterrole", "weft-control", "--type=merge", "-p", &patch])
    };
    let mut less = rules.clone();
    less.as_array_mut().context("no rules")?.retain(|r| !r["resources"].to_string().contains("tokenreviews"));
    set(&less)?;
    let control = stage.control("one", &[])?;
    let mut node = stage.node("n1", &control)?;
    node.status("it is told", |s| {
        s.last_error.as_ref().is_some_and(|e| e.contains("may not create tokenreviews"))
    });
    ensure!(!node.knows("web"));
    ensure!(control.metric(r#"weft_control_callers_turned_away_total{reason="unknown"}"#)? > 0);
    set(&rules)?;
    node.until("the pod", |s| s.workloads().count() == 1);
    Ok(())
}

#[test]
fn a_token_of_controls_own_that_ends_is_read_anew_from_its_file() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    // A token that ends when a Secret does.
    stage.kubectl().run(&["create", "secret", "generic", "bound", "-n", "weft-system"])?;
    let create = ["create", "token", "weft-control", "-n", "weft-system"];
    let bound = ["--bound-object-kind", "Secret", "--bound-object-name", "bound"];
    let token = stage.dir.path().join("control.token");
    fs::write(&token, stage.kubectl().run(&[&create[..], &bound].concat())?.trim())?;
    let mut kubeconfig: Value = serde_json::from_str(&read(&stage.api.kubeconfig())?)?;
    kubeconfig["users"][0]["user"] = json!({"tokenFile": token});
    let path = stage.dir.path().join("control.kubeconfig");
    fs::write(&path, kubeconfig.to_string())?;
    let mut control = stage.start_control("one", &[], &path)?;
    control.until("ready", |r| Ok(r.get("/readyz")?.starts_with("ready")))?;
    let node = stage.node("n1", &control)?;
    node.until("the pod", |s| s.workloads().count() == 1);

    stage.kubectl().run(&["delete", "secret", "bound", "-n", "weft-system"])?;
    // Watches that are open go on; after a break the token is asked for.
    stage.api.stop_api()?;
    stage.api.start_api()?;
    control.until_found(&["error", "does not accept control's credentials", "stays in force"])?;
    ensure!(node.knows("web") && control.get("/readyz")?.starts_with("ready"));
    fs::write(&token, stage.kubectl().run(&create)?.trim())?;
    // It is read once a minute.
    let end = Instant::now() + Duration::from_secs(150);
    while control.findings()?.iter().any(|f| f.contains("control's credentials")) {
        ensure!(Instant::now() < end, "the new token is not read: {}", control.process.log()?);
        std::thread::sleep(Duration::from_secs(1));
    }
    stage.pod("late", "web", "n1", "10.0.0.9")?;
    node.until("another pod", |s| s.workloads().count() == 2);
    Ok(())
}
