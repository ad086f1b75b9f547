//! The story, from the plain calls of a shop without a mesh to the claims about the one with it.

use super::{
    RUN,
    cost::{self, Cost, PATHS, Price},
    interrupt, looks,
    report::Report,
    stage::{self, Markers, SINK},
    tables::Teller,
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use weft_tests::{Cluster, Mesh, Process, Run, app, binaries, eventually};

/// Plays the whole story.
pub fn tell(teller: &Teller, keep: bool) -> Result<Report> {
    let mut report = Report::default();
    let run = Run::named(RUN)?;
    interrupt::watch(&run)?;
    teller.chapter(
        "A shop on two nodes",
        "namespaces, links and applications, as examples/bookshop has them; no mesh yet",
    );
    let (cluster, applications) = stage::lay_out(run)?;
    let prices = without(teller, &cluster, &mut report)?;
    teller.chapter(
        "The mesh",
        "weft-control beside the nodes, weft-agent on each; the applications run on untouched",
    );
    let mut mesh = join(cluster, applications)?;
    with(teller, &mut mesh, &mut report)?;
    within_the_node(teller, &mut mesh, &mut report);
    live(teller, &mut mesh, &mut report);
    costs(teller, &mesh, prices, &mut report);
    if keep {
        stay(teller, mesh)?;
    }
    Ok(report)
}

/// The calls and prices before there is a mesh.
fn without(teller: &Teller, cluster: &Cluster, report: &mut Report) -> Result<Vec<Price>> {
    let markers = Markers::new("bare");
    let (answers, wire) = stage::captured(cluster, "bare", || stage::make_calls(cluster, &markers))?;
    teller.calls(&answers);
    teller.wire(&wire);
    report.claims.try_one("without a mesh everybody is answered, and the link carries plain text", || {
        let refused: Vec<_> = answers.iter().filter(|answer| !answer.is_ok()).collect();
        ensure!(refused.is_empty(), "not answered: {refused:?}");
        ensure!(wire.contains(markers.meshed.as_bytes()), "the marker was not on the link");
        Ok(format!("{} calls answered; `{}` was read off the link", answers.len(), markers.meshed))
    });
    report.bare_calls = answers;
    teller.chapter("The price without a mesh", "each path for a few seconds, to compare with later");
    cost::measure(cluster)
}

/// Starts the mesh, and shows the logs of what did not start.
fn join(cluster: Cluster, applications: Vec<Process>) -> Result<Mesh> {
    Mesh::join(cluster, applications).context("the mesh does not start")
}

/// The same calls with a mesh, what crossed the link, and who was seen talking.
fn with(teller: &Teller, mesh: &mut Mesh, report: &mut Report) -> Result<()> {
    let markers = Markers::new("mesh");
    let (answers, wire) =
        stage::captured(&mesh.cluster, "mesh", || stage::make_calls(&mesh.cluster, &markers))?;
    teller.calls(&answers);
    let claims = &mut report.claims;
    claims.try_one("the same calls are captured, and the applications see what they saw before", || {
        looks::unchanged(&answers)
    });
    claims.try_one("a service's cluster address leads to its pod, in both families", || {
        looks::services(&mesh.cluster)
    });
    claims.try_one(
        "a refused call never reaches the server's application, and its client gets an error",
        || looks::refused(&answers),
    );
    teller.chapter("On the wire", "read off the link between the nodes while those calls were made");
    teller.wire(&wire);
    claims.try_one(
        "between the nodes the mesh speaks TLS on port 15008, and no byte of the marker is readable",
        || looks::encrypted(&wire, &markers),
    );
    claims.try_one("a caller outside the mesh still reaches a permissive pod, as plain text", || {
        looks::plain(&answers, &wire, &markers)
    });
    teller.chapter("Who talked to whom", "as the agents saw it");
    let flows = &mut report.flows;
    claims.try_one("both ends of a call between nodes are known by their SPIFFE identities", || {
        looks::identities(&mut stage::Told(mesh), flows)
    });
    claims.try_one("the agents tell which policy refused a call", || {
        looks::denials(&mut stage::Told(mesh), flows)
    });
    teller.flows(&report.flows);
    report.keep_wire(&wire);
    report.mesh_calls = answers;
    Ok(())
}

/// A gigabyte between two pods of one node, and what the agent's and the kernel's counters say of it.
fn within_the_node(teller: &Teller, mesh: &mut Mesh, report: &mut Report) {
    const BYTES: u64 = 1 << 30;
    teller.chapter("Within a node", "a gigabyte from payments to reviews, both on node-b");
    let told = &mut report.flows;
    let shown = told.len();
    report.claims.try_one("a call within a node touches no proxy", || {
        let (from, bytes) = ("bookshop/payments", BYTES.to_string());
        let to = SocketAddr::new(mesh.pod("bookshop/reviews")?.manifest.addresses.v4.into(), SINK);
        let before = stage::counters(mesh, "node-b")?;
        let sent = app::run(mesh.pod(from)?, &["throughput", &to.to_string(), "--bytes", &bytes])?;
        ensure!(sent["ok"] == true, "{sent}");
        let after = stage::counters(mesh, "node-b")?;
        let more = |name: &str| after.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
        let [direct, captured, steered] = ["direct", "captured", "steered"].map(more);
        ensure!(
            (direct, captured, steered) == (1, 0, 0),
            "the kernel joined {direct} connections, captured {captured} and steered {steered} to the agent"
        );
        let flow = stage::flow_of(mesh, "node-b", from, to)?;
        let connection = &flow["connection"];
        ensure!(connection["path"] == "direct" && connection["bytes_to_server"] == BYTES, "{flow}");
        told.push(flow);
        Ok(format!(
            "{BYTES} bytes at {:.1} Gbit/s on a direct path; on that node 1 connection was joined, 0 were captured and 0 \
             steered to the agent",
            sent["gbit_per_second"].as_f64().unwrap_or(0.0)
        ))
    });
    teller.flows(&told[shown..]);
}

/// Connections that are seen while they last.
fn live(teller: &Teller, mesh: &mut Mesh, report: &mut Report) {
    const HELD: usize = 20;
    teller.chapter("Live", "twenty connections from web to reviews are held for three seconds");
    let flows = &mut report.flows;
    report.claims.try_one("live connections are listed while they last, with their bytes", || {
        let reviews = mesh.pod("bookshop/reviews")?.clone();
        let _echo = app::serve(&reviews, "echo", SINK + 1)?;
        let to = SocketAddr::new(reviews.manifest.addresses.v4.into(), SINK + 1).to_string();
        let count = HELD.to_string();
        let args = ["hold", &to, "--connections", &count, "--seconds", "3", "--every-ms", "50"];
        let client = app::start(mesh.pod("bookshop/web")?, "hold", &args)?;
        let agent = mesh.agent("node-b")?;
        let seen = eventually(Duration::from_secs(3), || {
            let all = agent.list(&["connections"])?;
            let theirs: Vec<_> = all
                .into_iter()
                .filter(|connection| {
                    connection["destination"]["address"] == to
                        && connection["bytes_to_server"].as_u64().is_some_and(|bytes| bytes > 8)
                })
                .collect();
            ensure!(theirs.len() == HELD, "{} of {HELD} are listed", theirs.len());
            Ok(theirs)
        })?;
        let bytes: u64 = seen.iter().filter_map(|connection| connection["bytes_to_server"].as_u64()).sum();
        flows.extend(
            seen.into_iter()
                .take(3)
                .map(|connection| json!({ "event": "live", "verdict": "allowed", "connection": connection })),
        );
        let held = app::result(client, Duration::from_secs(20))?;
        ensure!(held["ok"] == true, "{held}");
        Ok(format!("{HELD} connections, {bytes} bytes so far, all of them ended well"))
    });
    let live: Vec<_> = flows.iter().filter(|flow| flow["event"] == "live").cloned().collect();
    teller.flows(&live);
}

/// The same measurements as before the mesh.
fn costs(teller: &Teller, mesh: &Mesh, bare: Vec<Price>, report: &mut Report) {
    teller.chapter(
        "The price",
        "each path for a few seconds, as before the mesh; `cargo xtask bench` measures with care",
    );
    let costs = &mut report.costs;
    report.claims.try_one("what each path costs was measured", || {
        let prices = cost::measure(&mesh.cluster)?;
        costs.extend(PATHS.iter().zip(bare).zip(prices).map(|(((path, _), bare), mesh)| Cost {
            path: *path,
            bare,
            mesh,
        }));
        let parts = costs.iter().map(|cost| {
            let part = cost.mesh.requests_per_second / cost.bare.requests_per_second;
            format!("{}: {part:.2} of the bare requests/s", cost.path)
        });
        Ok(parts.collect::<Vec<_>>().join(", "))
    });
    teller.costs(&report.costs);
}

/// Leaves the mesh running, and says how to look around.
fn stay(teller: &Teller, mesh: Mesh) -> Result<()> {
    teller.chapter("It stays", "until `cargo xtask demo down`");
    for (node, agent) in &mesh.agents {
        teller.line(&format!("  {node}: {} connections", agent.command_line()?));
    }
    let web = mesh.pod("bookshop/web")?;
    let (app, reviews) =
        (binaries::find("weft-app")?, mesh.cluster.manifests.services.get("bookshop/reviews"));
    let reviews = reviews.context("the manifests have no service bookshop/reviews")?;
    let to = SocketAddr::new(reviews.addresses.v4.into(), *reviews.ports.first().context("no port")?);
    // A process belongs to a pod by its cgroup as much as by its namespace: the kernel programs hang on the former.
    let (cgroup, netns) = (web.cgroup.join("cgroup.procs"), web.netns.name());
    let (cgroup, app) = (cgroup.display(), app.display());
    teller
        .line(&format!("  as web: sh -c 'echo $$ > {cgroup} && exec ip netns exec {netns} {app} get {to}'"));
    teller.line(&format!("  manifests: {} (edit them)", mesh.control.manifests.display()));
    mesh.keep()
}
