//! Who is let in, and who gets which certificate.

use crate::{
    node::{certificate, endpoint},
    stage::{Stage, read},
};
use anyhow::{Result, ensure};
use std::fs;
use tonic::Code;
use weft_io::discovery::ca::IssueError;

fn refused(answer: Result<Vec<String>, IssueError>) -> (Code, String) {
    match answer {
        Err(IssueError::Refused(status)) => (status.code(), status.message().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_gets_certificates_of_its_own_nodes_pods_and_nobody_else_any() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    let control = stage.control("one", &[])?;
    let node = stage.node("n1", &control)?;
    node.until("both pods", |s| s.workloads().count() == 2);
    let chain = node.certificate("web")?;
    ensure!(chain.len() == 3 && chain[2] == read(&stage.root()?)?, "leaf, intermediate, root");
    let (code, text) = refused(node.certificate("db"));
    ensure!(code == Code::PermissionDenied && text.contains("n1"), "{text}");

    let runtime = tokio::runtime::Runtime::new()?;
    let ask = |token: &str| {
        let path = stage.dir.path().join("some.token");
        fs::write(&path, token).unwrap();
        let endpoint = endpoint(control.discovery().unwrap(), stage.root().unwrap(), path);
        refused(certificate(&runtime, endpoint, "web"))
    };
    let of = |pod: &str, account: &str, namespace: &str, audience: &str| {
        stage.bound_token(namespace, account, pod, audience)
    };
    let unbound = ["create", "token", "weft-agent", "-n", "weft-system", "--audience", "weft-control"];
    for (token, part) in [
        ("nonsense".to_owned(), "does not accept the token"),
        (of("weft-agent-n1", "weft-agent", "weft-system", "other")?, "does not accept the token"),
        (of("web", "web", "shop", "weft-control")?, "not of system:serviceaccount:weft-system:weft-agent"),
        (stage.kubectl().run(&unbound)?, "not bound to a pod"),
    ] {
        let (code, text) = ask(&token);
        ensure!(code == Code::Unauthenticated && text.contains(part), "{code:?} {text}");
    }
    // The token of a pod that is gone counts for nothing, as soon as what was said of it is old.
    let token = of("weft-agent-n1", "weft-agent", "weft-system", "weft-control")?;
    stage.kubectl().run(&[
        "delete",
        "pod",
        "weft-agent-n1",
        "-n",
        "weft-system",
        "--force",
        "--grace-period=0",
    ])?;
    let (code, text) = ask(&token);
    ensure!(code == Code::Unauthenticated && text.contains("does not accept"), "{code:?} {text}");
    Ok(())
}

#[test]
fn while_the_api_is_away_known_agents_go_on_and_others_are_told_to_wait() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    let control = stage.control("one", &[])?;
    let node = stage.node("n1", &control)?;
    node.until("the pod", |s| s.workloads().count() == 1);
    node.certificate("web")?;
    let other = stage.token("n2", "weft-control")?;
    let root = stage.root()?;
    stage.api.stop_api()?;
    node.certificate("web")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let endpoint = endpoint(control.discovery()?, root, other);
    let (code, text) = refused(certificate(&runtime, endpoint, "web"));
    ensure!(code == Code::Unavailable && text.contains("reviews no token"), "{code:?} {text}");
    Ok(())
}

#[test]
fn a_users_own_authority_is_used_and_never_written() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    // Some other authority's files, with Istio's names.
    let dir = stage.dir.path().join("ca");
    let lifetimes = weft_control::issue::Lifetimes {
        leaf: std::time::Duration::from_secs(3600),
        leaf_max: std::time::Duration::from_secs(3600),
        root: std::time::Duration::from_secs(86_400),
        intermediate: std::time::Duration::from_secs(86_400),
        overlap: std::time::Duration::from_secs(3600),
    };
    weft_control::issue::Authority::open(&dir, lifetimes, "cluster.local")?;
    let from = |file: &str| format!("--from-file={}", dir.join(file).display());
    let files = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"].map(from);
    let mut create = vec!["create", "secret", "generic", "cacerts", "-n", "weft-system"];
    create.extend(files.iter().map(String::as_str));
    stage.kubectl().run(&create)?;
    let before = stage.kubectl().json(&["get", "secret", "cacerts", "-n", "weft-system"])?;
    let control = stage.control("one", &[])?;
    let node = stage.node("n1", &control)?;
    node.until("the pod", |s| s.workloads().count() == 1);
    let chain = node.certificate("web")?;
    ensure!(chain.last() == Some(&read(&dir.join("root-cert.pem"))?));
    let after = stage.kubectl().json(&["get", "secret", "cacerts", "-n", "weft-system"])?;
    ensure!(before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]);
    // What is in force is kept beside it, for the day on which the user's is gone or broken.
    let kept = stage.kubectl().json(&["get", "secret", "weft-ca", "-n", "weft-system"])?;
    ensure!(kept["data"] == after["data"], "something else is in force than what the user brought");
    Ok(())
}
