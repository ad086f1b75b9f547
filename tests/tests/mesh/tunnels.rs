//! Tunnels: who may open one to a pod, where it may lead, and whom its client may speak for.

use crate::{
    intruder::{Answer, Ask, Intruder, Papers, Signer, Validity},
    stage::{SOON, authorize, await_policy, spiffe},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use weft_tests::{Mesh, eventually, require_kernel};

/// The port of HBONE.
const HBONE: u16 = 15008;

/// Both addresses of a pod.
fn addresses(mesh: &Mesh, pod: &str) -> Result<[IpAddr; 2]> {
    Ok(mesh.pod(pod)?.manifest.addresses.both())
}

/// The client's address that the application saw.
fn seen(answer: &Answer) -> Result<SocketAddr> {
    let Answer::Open(said) = answer else { bail!("no tunnel: {answer:?}") };
    let body = said.split("\r\n\r\n").nth(1).context("no body")?;
    let told: Value = serde_json::from_str(body)?;
    Ok(told["peer"].as_str().context("no peer")?.parse()?)
}

#[test]
fn only_certificates_of_the_mesh_open_a_tunnel() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("papers")?;
    let web = spiffe("bookshop/web");
    let good = Intruder::new(Some(Papers::new(&mesh, &web, Signer::Mesh, Validity::Now)?))?;
    let papers = |name: &str, signer, validity| Papers::new(&mesh, name, signer, validity);
    let foreign = "spiffe://other.example/ns/bookshop/sa/web";
    let bad = [
        ("no certificate", Intruder::new(None)?),
        ("another trust domain", Intruder::new(Some(papers(foreign, Signer::Mesh, Validity::Now)?))?),
        ("expired", Intruder::new(Some(papers(&web, Signer::Mesh, Validity::Past)?))?),
        ("not valid yet", Intruder::new(Some(papers(&web, Signer::Mesh, Validity::Future)?))?),
        ("self-signed", Intruder::new(Some(papers(&web, Signer::Nobody, Validity::Now)?))?),
        ("another authority", Intruder::new(Some(papers(&web, Signer::Impostor, Validity::Now)?))?),
        ("no SPIFFE name", Intruder::new(Some(papers("web.bookshop", Signer::Mesh, Validity::Now)?))?),
        ("TLS 1.2", Intruder::outdated(papers(&web, Signer::Mesh, Validity::Now)?)?),
    ];
    for ip in addresses(&mesh, "bookshop/reviews")? {
        let (pod, target) = (SocketAddr::new(ip, HBONE), SocketAddr::new(ip, 8080).to_string());
        seen(&good.ask(&mesh, pod, Ask::to(&target))?).context("with good papers")?;
        for (what, intruder) in &bad {
            let answer = intruder.ask(&mesh, pod, Ask::to(&target))?;
            let Answer::NoTunnel(why) = answer else { bail!("{what}: {answer:?}") };
            ensure!(!why.starts_with("TCP"), "{what}: no TCP connection: {why}");
        }
    }
    let agent = &mesh.agents["node-b"];
    eventually(SOON, || {
        let told = agent.list(&["flows", "--from", "legacy/desk", "--verdict", "failed"])?;
        let failures = told.iter().filter(|flow| flow["reason"] == "tls_failure").count();
        ensure!(
            failures == 2 * bad.len(),
            "{failures} of {} failures are told: {}",
            2 * bad.len(),
            json!(told)
        );
        Ok(())
    })
}

#[test]
fn a_tunnel_leads_to_its_own_pod_and_nowhere_else() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("targets")?;
    let client = |pod: &str| -> Result<Intruder> {
        Intruder::new(Some(Papers::new(&mesh, &spiffe(pod), Signer::Mesh, Validity::Now)?))
    };
    let (web, catalog) = (client("bookshop/web")?, client("bookshop/catalog")?);
    let refused = |intruder: &Intruder, pod: IpAddr, authority: &str, status: u16| -> Result<()> {
        let answer = intruder.ask(&mesh, SocketAddr::new(pod, HBONE), Ask::to(authority))?;
        let Answer::Refused(got) = answer else { bail!("{authority} of {pod}: {answer:?}") };
        ensure!(got == status, "{authority} of {pod}: {got}, and not {status}");
        Ok(())
    };
    let both = addresses(&mesh, "bookshop/reviews")?.into_iter().zip(addresses(&mesh, "bookshop/payments")?);
    for (reviews, payments) in both {
        let at = |ip: IpAddr, port: u16| SocketAddr::new(ip, port).to_string();
        let loopback: IpAddr = if reviews.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse()? };
        for target in [
            at(reviews, 15001),
            at(reviews, 15006),
            at(reviews, HBONE),
            at(payments, 8080),
            at(loopback, 8080),
            "reviews.bookshop.svc.cluster.local:8080".into(),
        ] {
            refused(&web, reviews, &target, 400)?;
        }
        // Nobody listens there.
        refused(&web, reviews, &at(reviews, 9), 503)?;
        // The policy of the bookshop is asked for every identity by itself.
        refused(&catalog, payments, &at(payments, 8080), 401)?;
        seen(&web.ask(&mesh, SocketAddr::new(payments, HBONE), Ask::to(&at(payments, 8080)))?)?;
    }
    Ok(())
}

#[test]
fn a_forwarded_header_is_believed_of_who_owns_the_address() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("forwarded")?;
    let web = Intruder::new(Some(Papers::new(&mesh, &spiffe("bookshop/web"), Signer::Mesh, Validity::Now)?))?;
    let family = |pod: &str, n: usize| Ok::<_, anyhow::Error>(addresses(&mesh, pod)?[n]);
    let ask = |n: usize, forwarded: &str| -> Result<Answer> {
        let reviews = family("bookshop/reviews", n)?;
        let target = SocketAddr::new(reviews, 8080).to_string();
        let ask = Ask { authority: &target, forwarded: Some(forwarded) };
        web.ask(&mesh, SocketAddr::new(reviews, HBONE), ask)
    };
    for n in [0, 1] {
        let (own, desk) = (SocketAddr::new(family("bookshop/web", n)?, 5555), family("legacy/desk", n)?);
        ensure!(seen(&ask(n, &format!("for=\"{own}\""))?)? == own, "the truth is not believed");
        for lie in [
            format!("for=\"{}\"", SocketAddr::new(family("bookshop/payments", n)?, 5556)),
            format!("for=\"{}\"", SocketAddr::new(family("bookshop/reviews", n)?, 5557)),
            "for=\"192.0.2.1:1\"".to_owned(),
            "for=unknown".to_owned(),
            "for=\"".to_owned(),
            "x".repeat(2000),
        ] {
            let seen = seen(&ask(n, &lie)?).with_context(|| format!("forwarded: {lie}"))?;
            ensure!(seen.ip() == desk, "{lie} was believed: {seen} in place of {desk}");
        }
    }
    // Nor does a lie lead around a policy about addresses.
    authorize(
        &mesh,
        "no-desk",
        "reviews",
        "DENY",
        "{from: [{source: {ipBlocks: [10.20.1.20, 'fd20:0:0:1::20']}}]}",
    )?;
    await_policy(&mesh, "no-desk", true)?;
    for n in [0, 1] {
        let lie = format!("for=\"{}\"", SocketAddr::new(family("bookshop/payments", n)?, 5558));
        let answer = ask(n, &lie)?;
        ensure!(matches!(answer, Answer::Refused(status) if status == 401), "{answer:?}");
    }
    Ok(())
}
