//! Two replicas that share nothing but the API.

use crate::{
    manifests::POLICY,
    stage::{Stage, until},
};
use anyhow::{Result, ensure};
use std::{fs, time::Duration};
use weft_model::Delta;

#[test]
fn an_agent_that_comes_to_another_replica_gets_the_difference() -> Result<()> {
    let stage = Stage::new()?;
    for n in 1..=40 {
        stage.kubectl().apply(&crate::manifests::pod("shop", &format!("p{n}"), "web", "n1"))?;
    }
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    stage.kubectl().apply(POLICY)?;
    let mut first = stage.control("one", &[])?;
    let second = stage.control("two", &[])?;
    // Both are of one authority, and both would let the node in. It knows them by one address, as by a Service.
    let door = Door::open(first.discovery()?)?;
    let root = stage.root()?;
    let mut node = crate::node::Node::connect("n1", door.address, root, stage.token("n1", "weft-control")?);
    node.until("all pods", |s| s.workloads().count() == 42 && s.policies().count() == 1);
    node.status("all is told", |s| s.has_state());
    node.told();
    let sent = |r: &crate::stage::Replica| r.metric(r#"weft_control_resources_sent_total{kind="address"}"#);
    ensure!(sent(&first)? >= 42);
    door.lead_to(second.discovery()?);
    first.process.stop(Duration::from_secs(20))?;
    node.status("the connection is lost", |s| !s.connected || s.last_error.is_some());
    let count = || second.metric("weft_control_agents");
    until("the node is at the second replica", || {
        ensure!(count()? == 1);
        Ok(())
    })?;
    node.status("it is connected again", |s| s.connected);
    // Something that comes after it shows that all before it has arrived.
    stage.pod("late", "web", "n1", "10.0.0.9")?;
    node.until("the late pod", |s| s.workloads().any(|w| &*w.name == "late" && !w.addresses.is_empty()));
    let told = node.told();
    let is_late = |delta: &Delta| matches!(delta, Delta::Workload(w) if &*w.name == "late");
    ensure!(told.iter().all(is_late), "the second replica told more than what changed: {told:?}");
    let addresses = sent(&second)?;
    println!("of 43 workloads, so many were sent to a node that changed replicas: {addresses}");
    // Once as it was placed, once as it got its address.
    ensure!((1..=2).contains(&addresses), "{addresses} addresses were sent");
    Ok(())
}

#[test]
fn one_authority_is_made_and_one_replica_leads() -> Result<()> {
    let stage = Stage::new()?;
    // Both start on an empty cluster at once.
    let mut first = stage.unready_control("one", &[])?;
    let mut second = stage.unready_control("two", &[])?;
    for replica in [&mut first, &mut second] {
        replica.until("ready", |r| Ok(r.get("/readyz")?.starts_with("ready")))?;
    }
    let root = fs::read_to_string(stage.root()?)?;
    let secret = stage.kubectl().json(&["get", "secret", "weft-ca", "-n", "weft-system"])?;
    use base64::{Engine, engine::general_purpose::STANDARD};
    let kept = STANDARD.decode(secret["data"]["root-cert.pem"].as_str().unwrap())?;
    ensure!(root.as_bytes() == kept);
    let holder = || {
        let lease = stage.kubectl().json(&["get", "lease", "weft-control", "-n", "weft-system"])?;
        Ok::<_, anyhow::Error>(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let leader = until("somebody leads", || {
        holder().and_then(|h| {
            ensure!(!h.is_empty());
            Ok(h)
        })
    })?;
    // The leader goes in peace, and the other one takes over without waiting for the Lease to end.
    let (leading, other) = if leader == "one" { (&mut first, "two") } else { (&mut second, "one") };
    leading.process.stop(Duration::from_secs(20))?;
    until("the other one leads", || {
        ensure!(holder()? == other);
        Ok(())
    })?;
    // What is single goes on: the roots are written again by the new leader.
    stage.kubectl().run(&["delete", "configmap", "weft-ca-root", "-n", "weft-system"])?;
    ensure!(fs::read_to_string(stage.root()?)? == root);
    Ok(())
}

/// An address that leads now here, now there, as a Service does.
struct Door {
    address: std::net::SocketAddr,
    to: std::sync::Arc<std::sync::Mutex<std::net::SocketAddr>>,
}

impl Door {
    fn open(to: std::net::SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let to = std::sync::Arc::new(std::sync::Mutex::new(to));
        let leads = to.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let to = *leads.lock().unwrap();
                std::thread::spawn(move || drop(join(stream, to)));
            }
        });
        Ok(Self { address, to })
    }

    fn lead_to(&self, to: std::net::SocketAddr) {
        *self.to.lock().unwrap() = to;
    }
}

fn join(stream: std::net::TcpStream, to: std::net::SocketAddr) -> std::io::Result<()> {
    let server = std::net::TcpStream::connect(to)?;
    let (mut a, mut b) = (stream.try_clone()?, server.try_clone()?);
    let (mut c, mut d) = (server, stream);
    let back = std::thread::spawn(move || {
        std::io::copy(&mut c, &mut d).ok();
        d.shutdown(std::net::Shutdown::Both).ok();
    });
    std::io::copy(&mut a, &mut b).ok();
    b.shutdown(std::net::Shutdown::Both).ok();
    back.join().ok();
    Ok(())
}
