//! Pods that ask for it are encrypted on their own node, too.

use crate::stage::{DIRECT, SOON, well};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::{fs, net::SocketAddr, time::Duration};
use weft_tests::{Capture, Mesh, app, eventually, require_kernel, wire::Wire};

/// What the client sends, in a header.
const MARKER: &str = "on-the-node-4b1c";

/// What the server's own interface sees of one call in each family, and who called.
fn seen(mesh: &Mesh, name: &str) -> Result<(Wire, Vec<Value>)> {
    let file = mesh.cluster.run.directory().join(format!("{name}.pcap"));
    let capture = Capture::start(&mesh.pod(DIRECT.to)?.netns, "eth0", &file)?;
    let mut clients = Vec::new();
    for to in DIRECT.targets(mesh, 8080)? {
        let header = format!("x-marker: {MARKER}");
        let got = DIRECT.call(mesh, &["get", &to.to_string(), "--header", &header])?;
        well(name, &got)?;
        ensure!(got["body"]["peer"] == got["local"], "{name}: the server saw another client: {got}");
        clients.push(got["local"].clone());
    }
    Ok((capture.stop()?, clients))
}

/// The path that `explain` names for both families.
fn explained(mesh: &Mesh, path: &str) -> Result<Vec<Value>> {
    let ask = |to: SocketAddr| {
        let found =
            mesh.agents["node-b"].ask(&["explain", "--from", DIRECT.from, "--to", &to.to_string()])?;
        ensure!(found["path"] == path, "{found}");
        Ok(found)
    };
    DIRECT.targets(mesh, 8080)?.into_iter().map(ask).collect()
}

#[test]
fn a_label_encrypts_what_the_kernel_would_join_and_ends_what_it_has_joined() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("encrypt")?;
    let _echo = app::serve(mesh.pod(DIRECT.to)?, "echo", 7000)?;
    // First the server asks for it, then the client, then the namespace for all.
    for (file, pod, from, with) in [
        (
            "32-reviews.yaml",
            "reviews",
            "    app: reviews\n    version: v1\n",
            "    weft.dev/encrypt: always\n",
        ),
        (
            "33-payments.yaml",
            "payments",
            "    app: payments\n    version: v1\n",
            "    weft.dev/encrypt: always\n",
        ),
        ("20-namespaces.yaml", "", "    weft.dev/mesh: enabled\n", "    weft.dev/encrypt: always\n"),
    ] {
        let plain = fs::read_to_string(mesh.control.manifests.join(file))?;
        let asking = plain.replacen(from, &format!("{from}{with}"), 1);
        ensure!(asking != plain, "the example has changed: {file}");

        eventually(SOON, || explained(&mesh, "direct"))?;
        ensure!(seen(&mesh, "joined")?.0.contains(MARKER.as_bytes()), "the kernel joins them");
        let to = DIRECT.targets(&mesh, 7000)?[1].to_string();
        let hold = ["hold", &to, "--connections", "2", "--seconds", "30", "--every-ms", "50"];
        let mut held = app::start(mesh.pod(DIRECT.from)?, "held", &hold)?;
        held.wait_for_line(SOON, |line| line.contains(r#""held""#))?;

        mesh.control.apply(file, &asking)?;
        let told = eventually(SOON, || explained(&mesh, "tunnel"))?;
        let why = told[0]["steps"].to_string();
        ensure!(why.contains("to be encrypted always"), "{why}");
        let broken = app::result(held, Duration::from_secs(60))?;
        ensure!(broken["failures"]["ECONNRESET"] == 2, "what was joined before is cut: {broken}");

        let (wire, clients) = seen(&mesh, "encrypted")?;
        ensure!(!wire.contains(MARKER.as_bytes()), "{file}: the marker crossed {} in the clear", DIRECT.to);
        let tunnels: Vec<_> = wire.to_port(15008).collect();
        // A handshake, or the middle of a session that was there before the capture.
        let sealed = tunnels.iter().all(|(_, s)| matches!(s.payload.as_slice(), [22 | 23, 3, 1..=3, ..]));
        ensure!(!tunnels.is_empty() && sealed, "{tunnels:?}");
        ensure!(wire.to_port(8080).next().is_none(), "something came past the tunnel");
        shown(&mesh, pod, &clients)?;

        mesh.control.apply(file, &plain)?;
    }
    eventually(SOON, || explained(&mesh, "direct"))?;
    Ok(())
}

/// `workloads` and `flows` tell of it; a pod without a name stands for all of the namespace.
fn shown(mesh: &Mesh, pod: &str, clients: &[Value]) -> Result<()> {
    let agent = &mesh.agents["node-b"];
    for w in agent.list(&["workloads"])?.iter().filter(|w| w["namespace"] == "bookshop") {
        let asks = pod.is_empty() || w["name"] == pod;
        ensure!(w["always_encrypt"].as_bool().unwrap_or_default() == asks, "{w}");
    }
    eventually(SOON, || {
        let flows = agent.list(&["flows", "--from", DIRECT.from, "--to", DIRECT.to])?;
        let told = |client: &Value, direction: &str| {
            let of = |f: &&Value| {
                f["connection"]["source"]["address"] == *client && f["connection"]["direction"] == direction
            };
            flows.iter().find(of).is_some_and(|f| f["connection"]["path"] == "tunnel")
        };
        let all = clients.iter().all(|client| told(client, "inbound") && told(client, "outbound"));
        ensure!(all, "{clients:?} are not told as tunnelled: {flows:?}");
        Ok(())
    })
}
