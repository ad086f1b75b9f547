//! Another root, while nodes go on to get certificates.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{process::Command, sync::Arc, time::Duration};
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

    let account = "system:serviceaccount:weft-system:weft-control";
    let rotate = || -> Result<std::process::Output> {
        let mut command = Command::new(binaries::find("weft-control")?);
        command.args(["rotate-root", "--kube"]).args(short);
        command.env("KUBECONFIG", stage.api.kubeconfig_for(account, None)?);
        Ok(command.env_remove("KUBERNETES_SERVICE_HOST").output()?)
    };
    let begun = rotate()?;
    ensure!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    let again = rotate()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && said.contains("under way"), "{said}");

    // Each second both replicas give out a certificate; those that live at the same time must trust each other.
    let mut living: Vec<(std::time::Instant, Vec<String>)> = Vec::new();
    let (mut checked, mut seen) = (0, Vec::new());
    let end = std::time::Instant::now() + Duration::from_secs(90);
    loop {
        for replica in [&node, &other] {
            // The roots are read again, as kubelet brings them to the agent.
            stage.root()?;
            let fresh = replica.certificate("web").context("an outage")?;
            living.retain(|(at, _)| at.elapsed() < Duration::from_secs(11));
            for (_, old) in &living {
                ensure!(
                    trusts(old, &fresh) && trusts(&fresh, old),
                    "two certificates do not trust each other"
                );
                checked += 1;
            }
            let roots = fresh.last().context("no root")?.clone();
            if seen.last() != Some(&roots) {
                seen.push(roots);
            }
            living.push((std::time::Instant::now(), fresh));
        }
        let last = seen.last().context("no root")?;
        if !last.contains(old.trim()) && living.iter().all(|(_, chain)| chain.last() == Some(last)) {
            break;
        }
        ensure!(
            std::time::Instant::now() < end,
            "the rotation did not end; {} sets of roots were seen",
            seen.len()
        );
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("pairs of certificates that lived at once and trusted each other: {checked}");
    ensure!(seen.len() >= 3, "old, both, new: {} sets", seen.len());
    let map = std::fs::read_to_string(stage.root()?)?;
    ensure!(!map.contains(old.trim()), "the old root is still published");
    Ok(())
}
