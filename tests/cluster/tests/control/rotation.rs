//! Another root, while nodes go on to get certificates.

use crate::{
    node::Node,
    stage::{Replica, Stage},
};
use anyhow::{Context, Result, ensure};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{
    fs,
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant},
};
use weft_control::issue::{Authority, Lifetimes};
use weft_tests::binaries;

/// Whether the holder of `trusting` accepts the holder of `shown`.
fn trusts(trusting: &[String], shown: &[String]) -> bool {
    let mut store = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(trusting.last().unwrap().as_bytes()) {
        store.add(root.unwrap()).unwrap();
    }
    let chain: Vec<_> = shown.iter().map(|c| CertificateDer::from_pem_slice(c.as_bytes()).unwrap()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(store.into(), provider);
    verifier
        .build()
        .unwrap()
        .verify_client_cert(&chain[0], &chain[1..chain.len() - 1], UnixTime::now())
        .is_ok()
}

fn rotate_root(stage: &Stage, flags: &[&str]) -> Result<Output> {
    let account = "system:serviceaccount:weft-system:weft-control";
    let mut command = Command::new(binaries::find("weft-control")?);
    command.args(["rotate-root", "--kube"]).args(flags);
    command.env("KUBECONFIG", stage.api.kubeconfig_for(account, None)?);
    Ok(command.env_remove("KUBERNETES_SERVICE_HOST").output()?)
}

/// Certificates that were given out and still live; each new one must trust, and be trusted by, all of them.
struct Living {
    life: Duration,
    chains: Vec<(Instant, Vec<String>)>,
    checked: usize,
    /// The sets of roots, as they came.
    seen: Vec<String>,
}

impl Living {
    fn new(life: Duration) -> Self {
        Self { life, chains: Vec::new(), checked: 0, seen: Vec::new() }
    }

    /// Each second every replica gives out a certificate, until all that live have roots that are so.
    fn follow(&mut self, stage: &Stage, replicas: &[&Node], holds: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            for replica in replicas {
                self.ask(stage, replica)?;
            }
            let last = self.seen.last().context("no root")?;
            if holds(last) && self.chains.iter().all(|(_, chain)| chain.last() == Some(last)) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "it did not end; {} sets of roots were seen", self.seen.len());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Has one certificate given out.
    fn ask(&mut self, stage: &Stage, replica: &Node) -> Result<Vec<String>> {
        // The roots are read again, as kubelet brings them to the agent.
        stage.root()?;
        let fresh = replica.certificate("web").context("an outage")?;
        self.chains.retain(|(at, _)| at.elapsed() < self.life);
        for (_, old) in &self.chains {
            let both = trusts(old, &fresh) && trusts(&fresh, old);
            ensure!(both, "two certificates do not trust each other");
            self.checked += 1;
        }
        let roots = fresh.last().context("no root")?.clone();
        if self.seen.last() != Some(&roots) {
            self.seen.push(roots);
        }
        self.chains.push((Instant::now(), fresh.clone()));
        Ok(fresh)
    }
}

#[test]
fn a_root_is_rotated_while_every_certificate_that_lives_trusts_every_other() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    let short = ["--leaf-lifetime", "12s", "--rotation-overlap", "12s"];
    let first = stage.control("one", &short)?;
    let second = stage.control("two", &short)?;
    let node = stage.node("n1", &first)?;
    let other = stage.node("n1", &second)?;
    node.until("the pod", |s| s.workloads().count() == 1);
    other.until("the pod", |s| s.workloads().count() == 1);
    let old = node.certificate("web")?.pop().context("no root")?;

    let rotate = || rotate_root(&stage, &short);
    let begun = rotate()?;
    ensure!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    let again = rotate()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && said.contains("under way"), "{said}");

    let mut living = Living::new(Duration::from_secs(11));
    living.follow(&stage, &[&node, &other], |roots| !roots.contains(old.trim()))?;
    let Living { checked, seen, .. } = living;
    println!("pairs of certificates that lived at once and trusted each other: {checked}");
    ensure!(seen.len() >= 3, "old, both, new: {} sets", seen.len());
    let map = fs::read_to_string(stage.root()?)?;
    ensure!(!map.contains(old.trim()), "the old root is still published");
    Ok(())
}

/// An authority of a user's, in files of its own.
fn authority(stage: &Stage, name: &str) -> Result<std::path::PathBuf> {
    let (dir, day) = (stage.dir.path().join(name), Duration::from_secs(86_400));
    let lifetimes = Lifetimes { leaf: day, leaf_max: day, root: day, intermediate: day, overlap: day };
    Authority::open(&dir, lifetimes, "cluster.local")?;
    Ok(dir)
}

/// Puts it into the Secret as cert-manager does; answers its root.
fn bring(stage: &Stage, authority: &std::path::Path, key: &std::path::Path) -> Result<String> {
    let read = |dir: &std::path::Path, file: &str| fs::read_to_string(dir.join(file));
    let root = read(authority, "root-cert.pem")?;
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "cacerts", "namespace": "weft-system"},
        "stringData": {"tls.crt": read(authority, "ca-cert.pem")?, "tls.key": read(key, "ca-key.pem")?, "ca.crt": root},
    });
    stage.kubectl().apply(&secret.to_string())?;
    Ok(root)
}

#[test]
fn an_authority_that_a_user_brings_changes_breaks_and_takes_away_is_followed_without_an_outage() -> Result<()>
{
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    // Each replica looks every five seconds: so much longer than a certificate's life the overlap must be.
    let short = ["--leaf-lifetime", "6s", "--rotation-overlap", "12s"];
    let mut first = stage.control("one", &short)?;
    let mut second = stage.control("two", &short)?;
    let node = stage.node("n1", &first)?;
    let other = stage.node("n1", &second)?;
    node.until("the pod", |s| s.workloads().count() == 1);
    other.until("the pod", |s| s.workloads().count() == 1);
    let own = node.certificate("web")?.pop().context("no root")?;
    let mut living = Living::new(Duration::from_secs(5));

    let (one, two) = (authority(&stage, "one-ca")?, authority(&stage, "two-ca")?);
    let mut old = own;
    for next in [&one, &two] {
        let root = bring(&stage, next, next)?;
        living.follow(&stage, &[&node, &other], |roots| {
            roots.contains(root.trim()) && !roots.contains(old.trim())
        })?;
        old = root;
    }
    ensure!(living.seen.len() >= 5, "one, both, one, both, one: {} sets of roots", living.seen.len());
    println!("pairs of certificates that lived at once and trusted each other: {}", living.checked);

    // A key of another authority: what is in force stays, and it is told.
    bring(&stage, &two, &one)?;
    let found = |replica: &mut Replica| {
        replica.until_found(&["certificate authority", "does not belong to the key", "cacerts"])
    };
    found(&mut first)?;
    found(&mut second)?;
    ensure!(living.ask(&stage, &node)?.last() == Some(&old));
    bring(&stage, &two, &two)?;
    first.until("mended", |r| Ok(!r.findings()?.iter().any(|f| f.contains("certificate authority"))))?;

    // It is gone: what it held stays in force, also for a replica that starts.
    stage.kubectl().run(&["delete", "secret", "cacerts", "-n", "weft-system"])?;
    first.until_found(&[
        "certificate authority",
        "there is no Secret weft-system/cacerts any more",
        "rotate-root",
    ])?;
    let third = stage.control("three", &short)?;
    let late = stage.node("n1", &third)?;
    late.until("the pod", |s| s.workloads().count() == 1);
    for replica in [&node, &other, &late] {
        ensure!(living.ask(&stage, replica)?.last() == Some(&old), "another root");
    }
    // Control's own takes over when it is told to.
    let begun = rotate_root(&stage, &short)?;
    ensure!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    living.follow(&stage, &[&node, &other, &late], |roots| !roots.contains(old.trim()))?;
    first.until("mended", |r| Ok(!r.findings()?.iter().any(|f| f.contains("certificate authority"))))
}
