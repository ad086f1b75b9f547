//! The story for an ordinary user: the same bookshop, control plane, agents and applications, with explicit listeners in
//! place of capture.

mod calls;
mod live;

use super::{
    calls::Answer,
    interrupt, looks,
    report::{Mode, NotShown, Report},
    stage::{Flows, Markers},
    tables::Teller,
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{env, process, time::Duration};
use weft_tests::{Loopback, Manifests, eventually, kernel::Missing};

/// What only capture shows.
const NOT_SHOWN: [NotShown; 6] = [
    NotShown {
        claim: "applications are captured without knowing of it, and see each other's own addresses",
        needs: "root and BPF: here they are told of a proxy",
    },
    NotShown {
        claim: "a call within a node touches no proxy",
        needs: "root and BPF: here the agent carries it, encrypted",
    },
    NotShown {
        claim: "a service's cluster address leads to its pod",
        needs: "root and BPF for any application; here by name through a proxy",
    },
    NotShown {
        claim: "a caller outside the mesh reaches a permissive pod, and no strict one",
        needs: "root and BPF: here nothing stands before the application's port",
    },
    NotShown { claim: "no byte leaves the node in plain text", needs: "root, to capture a link" },
    NotShown {
        claim: "what each path costs",
        needs: "root and BPF: on loopback both paths are something else",
    },
];

impl Flows for Loopback {
    fn between(&mut self, node: &str, from: &str, to: &str) -> Result<Vec<Value>> {
        let agent = self.agents.get(node).with_context(|| format!("no agent on {node}"))?;
        eventually(Duration::from_secs(3), || {
            let flows = agent.list(&["flows", "--from", from, "--to", to])?;
            ensure!(!flows.is_empty(), "the agent of {node} tells of no flow from {from} to {to}");
            Ok(flows)
        })
    }

    fn manifests(&self) -> &Manifests {
        &self.manifests
    }
}

/// Plays the story. `missing` is why it is this one. The mesh ends with the value that is given back.
pub fn tell(teller: &Teller, missing: Vec<Missing>) -> Result<(Report, Loopback)> {
    let mut report = Report { mode: Mode::Explicit, not_shown: NOT_SHOWN.into(), ..Report::default() };
    if missing.is_empty() {
        teller.chapter("Without capture", "as --explicit asks for; nothing is missing on this machine");
    } else {
        teller.chapter(
            "Without capture",
            "this is missing on this machine, and so applications are pointed at the agents",
        );
        teller.missing(&missing);
    }
    report.missing = missing;
    teller.chapter(
        "The mesh",
        "on loopback: weft-control, an agent for each node, and the pods' applications, each on an address of its own",
    );
    let directory = env::temp_dir().join(format!("weft-demo-{}", process::id()));
    let groups = interrupt::watch_groups(&directory)?;
    let manifests = Manifests::read(&crate::shell::workspace().join("examples/bookshop"))?;
    let mut mesh =
        Loopback::start(manifests, &directory, |id| groups.add(id)).context("the mesh does not start")?;
    for key in mesh.manifests.pods.keys() {
        if let Ok(doors) = mesh.doors(key) {
            let (host, connect, socks) = (mesh.host(key)?, doors.connect, doors.socks);
            teller.line(&format!("  {key} on {host}: HTTP CONNECT at {connect}, SOCKS5 at {socks}"));
        }
    }
    calls(teller, &mut mesh, &mut report)?;
    live::show(teller, &mesh, &mut report);
    teller.chapter("Not shown here", "what only capture shows");
    teller.not_shown(&report.not_shown);
    Ok((report, mesh))
}

/// Every call through both listeners, what went between the agents, and who was seen talking.
fn calls(teller: &Teller, mesh: &mut Loopback, report: &mut Report) -> Result<()> {
    let markers = Markers::new("explicit");
    teller.chapter("The calls", "each through HTTP CONNECT and through SOCKS5, to both addresses of the pod");
    let answers = calls::make(mesh, &markers)?;
    let wire = mesh.recorder.take();
    teller.calls(&answers);
    let (claims, flows) = (&mut report.claims, &mut report.flows);
    claims.try_one("calls through HTTP CONNECT and SOCKS5 arrive, with the caller's own identity", || {
        calls::arrived(mesh, &answers)
    });
    claims.try_one("a service's name leads to its pod", || calls::by_name(mesh));
    claims.try_one(
        "a refused call never reaches the server's application, and its client gets an error",
        || looks::refused(&answers),
    );
    teller.chapter("On the wire", "what the agents sent each other while those calls were made");
    teller.wire(&wire);
    claims.try_one("between the agents the mesh speaks TLS, and no byte of the marker is readable", || {
        carried(&answers, &markers)?;
        looks::encrypted(&wire, &markers)
    });
    teller.chapter("Who talked to whom", "as the agents saw it");
    claims.try_one("both ends of a call between nodes are known by their SPIFFE identities", || {
        looks::identities(mesh, flows)
    });
    claims.try_one("the agents tell which policy refused a call", || looks::denials(mesh, flows));
    teller.flows(flows);
    report.keep_wire(&wire);
    report.mesh_calls = answers;
    Ok(())
}

/// That a marker is nowhere proves nothing unless the servers got it.
fn carried(answers: &[Answer], markers: &Markers) -> Result<()> {
    let got = |answer: &&Answer| answer.result["body"]["headers"]["x-marker"] == *markers.meshed;
    ensure!(answers.iter().any(|answer| got(&answer)), "no server saw the marker: {}", json!(answers));
    Ok(())
}

/// Keeps the mesh running until Ctrl-C, and says how to look around.
pub fn stay(teller: &Teller, mesh: &Loopback) -> Result<()> {
    teller.chapter("It stays", "until Ctrl-C");
    for (node, agent) in &mesh.agents {
        teller.line(&format!("  {node}: {} connections", agent.command_line()?));
    }
    let connect = mesh.doors("bookshop/web")?.connect;
    teller.line(&format!("  as web: curl -p -x http://{connect} http://reviews/"));
    teller.line(&format!("  logs: {}", mesh.directory().join("logs").display()));
    loop {
        // The thread that waits for Ctrl-C ends the process.
        std::thread::park();
    }
}
