//! The harness itself: what it lays out works, and what it made is gone afterwards.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use weft_tests::{Capture, Cluster, Manifests, Run, app, require_namespaces, sweep, wire};

fn bookshop() -> Result<Cluster> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookshop");
    Cluster::build(Run::unique("harness")?, Manifests::read(&directory)?)
}

#[test]
fn pods_reach_each_other_on_a_node_and_across_in_both_families() -> Result<()> {
    if !require_namespaces() {
        return Ok(());
    }
    let cluster = bookshop()?;
    let _applications = cluster.start_applications()?;
    let web = cluster.pod("bookshop/web")?;
    for callee in ["bookshop/catalog", "bookshop/reviews"] {
        let pod = cluster.pod(callee)?;
        for address in pod.manifest.addresses.both() {
            let to = std::net::SocketAddr::new(address, 8080);
            let answer = app::run(web, &["get", &to.to_string()])?;
            assert_eq!(answer["body"]["name"], pod.manifest.name, "{answer}");
            assert_eq!(answer["body"]["local"], to.to_string(), "{answer}");
            assert_eq!(answer["body"]["peer"], answer["local"], "{answer}");
        }
    }
    Ok(())
}

#[test]
fn nodes_reach_their_pods_and_each_other() -> Result<()> {
    if !require_namespaces() {
        return Ok(());
    }
    let cluster = bookshop()?;
    let _applications = cluster.start_applications()?;
    let (node_a, node_b) = (cluster.node("node-a")?, cluster.node("node-b")?);
    let _echo = app::serve(node_b, "echo", 7)?;
    for address in node_b.manifest.addresses.both() {
        let to = std::net::SocketAddr::new(address, 7).to_string();
        let held = app::run(node_a, &["hold", &to, "--connections", "2", "--seconds", "0"])?;
        assert_eq!(held["ok"], true, "{held}");
    }
    for address in cluster.pod("bookshop/web")?.manifest.addresses.both() {
        let to = std::net::SocketAddr::new(address, 8080).to_string();
        assert_eq!(app::run(node_a, &["get", &to])?["status"], 200);
        let from = app::run(node_b, &["get", &to])?["body"]["peer"].to_string();
        let own = node_b.manifest.addresses.both().map(|own| own.to_string());
        assert!(own.iter().any(|own| from.contains(own)), "{from} is none of {own:?}");
    }
    Ok(())
}

#[test]
fn a_link_that_is_down_carries_nothing_and_one_that_is_back_does() -> Result<()> {
    if !require_namespaces() {
        return Ok(());
    }
    let cluster = bookshop()?;
    let _applications = cluster.start_applications()?;
    let web = cluster.pod("bookshop/web")?;
    let link = cluster.links.first().context("no link")?;
    for address in cluster.pod("bookshop/reviews")?.manifest.addresses.both() {
        let to = std::net::SocketAddr::new(address, 8080).to_string();
        let get = || app::run(web, &["get", &to, "--patience", "1"]);
        assert_eq!(get()?["status"], 200);
        link.down()?;
        assert_eq!(get()?["ok"], false);
        link.up()?;
        let back = app::run(web, &["get", &to])?;
        assert_eq!(back["status"], 200, "{back}");
    }
    Ok(())
}

#[test]
fn a_capture_sees_what_crosses_the_link_and_only_that() -> Result<()> {
    if !require_namespaces() {
        return Ok(());
    }
    let cluster = bookshop()?;
    let _applications = cluster.start_applications()?;
    let end = &cluster.links.first().context("no link")?.ends[0];
    let file = cluster.run.directory().join("link.pcap");
    let capture = Capture::start(&end.netns, &end.interface, &file)?;
    let web = cluster.pod("bookshop/web")?;
    for (pod, marker) in [("bookshop/reviews", "across-5b1f"), ("bookshop/catalog", "within-9d07")] {
        for address in cluster.pod(pod)?.manifest.addresses.both() {
            let to = std::net::SocketAddr::new(address, 8080).to_string();
            app::run(web, &["get", &to, "--header", &format!("x-marker: {marker}")])?;
        }
    }
    let wire = capture.stop()?;
    assert!(wire.contains(b"across-5b1f"));
    assert!(!wire.contains(b"within-9d07"));
    let asked = wire.to_port(8080).collect::<Vec<_>>();
    assert_eq!(asked.len(), 2, "one connection of each family: {asked:?}");
    assert!(asked.iter().all(|(_, stream)| stream.payload.starts_with(b"GET / ") && !stream.is_tls()));
    assert_eq!(wire::Wire::read(&file)?.frames, wire.frames);
    Ok(())
}

#[test]
fn the_applications_keep_their_promises_without_a_mesh() -> Result<()> {
    if !require_namespaces() {
        return Ok(());
    }
    let cluster = bookshop()?;
    let (web, reviews) = (cluster.pod("bookshop/web")?, cluster.pod("bookshop/reviews")?);
    let manners = [
        ("echo", 7001),
        ("greet", 7002),
        ("half-close", 7003),
        ("reset", 7004),
        ("sink", 7005),
        ("bulk", 7006),
    ];
    let mut servers = Vec::new();
    for (manner, port) in manners {
        servers.push(app::serve(reviews, manner, port)?);
    }
    let to = |port: u16| std::net::SocketAddr::new(reviews.manifest.addresses.v6.into(), port).to_string();
    for call in [
        vec!["greet", &to(7002)],
        vec!["half-close", &to(7003), "--first", "client"],
        vec!["half-close", &to(7003), "--first", "server"],
        vec!["reset", &to(7004), "--by", "server"],
        vec!["reset", &to(7001), "--by", "client"],
        vec!["bulk", &to(7006), "--bytes", "3000001"],
        vec!["hold", &to(7001), "--connections", "300", "--seconds", "0.2", "--every-ms", "100"],
        vec!["connections", &to(7001), "--seconds", "0.2"],
        vec!["throughput", &to(7005), "--bytes", "1000003", "--streams", "2"],
    ] {
        let result = app::run(web, &call)?;
        assert_eq!(result["ok"], true, "{call:?}: {result}");
    }
    servers[0].wait_for_line(std::time::Duration::from_secs(5), |line| line.contains("ECONNRESET"))?;
    servers[2].wait_for_line(std::time::Duration::from_secs(5), |line| line.contains(r#""received":421"#))?;
    let refused = app::run(web, &["get", &to(9)])?;
    assert_eq!(refused["error"], "ECONNREFUSED", "{refused}");
    Ok(())
}

#[test]
fn nothing_is_left_of_a_run_that_ended() -> Result<()> {
    if !require_namespaces() {
        return Ok(());
    }
    let cluster = bookshop()?;
    let name = cluster.run.name().to_owned();
    let applications = cluster.start_applications()?;
    ensure!(!sweep::remains(&name)?.is_empty(), "the run left no trace while it was there");
    // As after a crash of the test: nobody kills the applications but the clean-up itself.
    applications.into_iter().for_each(weft_tests::Process::detach);
    drop(cluster);
    assert_eq!(sweep::remains(&name)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_run_that_goes_on_is_not_swept() -> Result<()> {
    if !require_namespaces() {
        return Ok(());
    }
    let cluster = bookshop()?;
    let swept = sweep::remove_stale()?;
    assert!(!swept.contains(&cluster.run.name().to_owned()));
    assert!(cluster.pod("bookshop/web")?.netns.path().exists());
    Ok(())
}
