//! What Services promise, of all kinds: a client of the mesh finds the same servers behind each as a client without a mesh
//! does, whose connections kube-proxy leads.

mod cases;
mod sources;

use crate::{
    calls::{Caller, NOBODY},
    images::APP,
    shop,
    stage::{LONG, Stage, timed},
    strict::STRICT,
};
use anyhow::{Result, bail, ensure};
use cases::{Case, Cases};
use std::{collections::BTreeSet, thread, time::Duration};

const NAMESPACE: &str = "served";
const OUTSIDE: &str = "unserved";

/// How long a Service's change may take until every client finds what it shall.
const SETTLED: Duration = Duration::from_secs(20);

/// The clients: on each node one of the mesh, and one that is not.
const CALLERS: [(usize, bool, Caller<'static>); 4] = [
    (0, true, Caller { namespace: NAMESPACE, pod: "deployment/web" }),
    (1, true, Caller { namespace: NAMESPACE, pod: "deployment/web-two" }),
    (0, false, Caller { namespace: OUTSIDE, pod: "deployment/here" }),
    (1, false, Caller { namespace: OUTSIDE, pod: "deployment/there" }),
];

pub fn run(stage: &Stage) -> Result<String> {
    let zone = |node: &str, value: &str| {
        stage.cluster.kubectl(&["label", "node", node, &format!("topology.kubernetes.io/zone{value}")])
    };
    zone("node-1", "=east")?;
    let told = zone("node-2", "=west").and_then(|_| promises(stage));
    for node in ["node-1", "node-2"] {
        zone(node, "-")?;
    }
    told
}

fn promises(stage: &Stage) -> Result<String> {
    open(stage)?;
    let cases = Cases::of(stage)?;
    let all = cases.all();
    hold(stage, &all, |_, _| true)?;
    let sources = sources::kept(stage, &cases)?;

    // A pod of a StatefulSet keeps its name, not its address.
    let before = stage.pod_address_of(NAMESPACE, "set-1")?;
    stage.cluster.kubectl(&["delete", "pod", "set-1", "--namespace", NAMESPACE])?;
    rolled_out(stage)?;
    let after = stage.pod_address_of(NAMESPACE, "set-1")?;
    ensure!(before != after, "set-1 has its address {before} again: nothing to see");
    let named = cases.stable();
    let renamed = timed(LONG, || hold(stage, &named, |_, _| true))?;

    shop::apply(stage, NAMESPACE, STRICT)?;
    let refused: Vec<_> = all.iter().filter(|case| case.meshed).map(Case::refused).collect();
    let refusal = timed(LONG, || hold(stage, &refused[..1], |meshed, _| !meshed))?;
    hold(stage, &refused, |meshed, _| !meshed)?;
    // What leads past the mesh's own addresses comes without an identity.
    hold(stage, &all, |meshed, case| meshed && !case.past)?;
    let past: Vec<_> = all.iter().filter(|case| case.past).map(Case::refused).collect();
    hold(stage, &past, |meshed, _| meshed)?;
    sources::refused(stage, &cases)?;

    // The one server behind it ends, and serves while it does.
    stage.cluster.kubectl(&["delete", "pod", "last", "--namespace", NAMESPACE, "--wait=false"])?;
    timed(LONG, || {
        let selector = ["--namespace", NAMESPACE, "--selector", "kubernetes.io/service-name=last"];
        let slices = stage.cluster.json(&[&["get", "endpointslices"], &selector[..]].concat())?;
        let conditions = &slices["items"][0]["endpoints"][0]["conditions"];
        ensure!(conditions["terminating"] == true && conditions["serving"] == true, "{slices}");
        Ok(())
    })?;
    // Long enough for everybody to have learned of it.
    thread::sleep(Duration::from_secs(2));
    hold(stage, &cases.last(), |meshed, _| meshed)?;
    Ok(format!(
        "{} Services and ways to them led all clients to the servers that they should; a pod with a new address was found by \
         its name {:.1} s after it was ready; plaintext was refused everywhere {:.1} s after STRICT came; {sources}",
        all.len(),
        renamed.as_secs_f64(),
        refusal.as_secs_f64(),
    ))
}

/// Whether every caller that is `asked` finds behind each case whom it should; says of all that do not.
fn hold(stage: &Stage, cases: &[Case], asked: impl Fn(bool, &Case) -> bool + Sync) -> Result<()> {
    let wrong = |(node, meshed, caller): (usize, bool, Caller<'_>)| {
        let asked = cases.iter().filter(|case| asked(meshed, case));
        let wrong = asked.filter_map(|case| {
            let wanted: BTreeSet<_> = case.answers[node].iter().map(|name| (*name).to_owned()).collect();
            // Of two servers, chance would leave one out once in a million times.
            let times = if wanted.contains(NOBODY) { 2 } else { 20 };
            let look = || {
                let found = caller.answered(stage, &case.to, times)?;
                ensure!(found == wanted, "{found:?} answered, not {wanted:?}");
                Ok(())
            };
            let result = timed(SETTLED, look);
            result.err().map(|error| format!("{caller:?}: {} ({}): {error:#}", case.name, case.to))
        });
        wrong.collect::<Vec<_>>()
    };
    let wrong: Vec<_> = thread::scope(|scope| {
        let all = CALLERS.map(|caller| scope.spawn(move || wrong(caller)));
        all.into_iter()
            .flat_map(|one| one.join().unwrap_or_else(|_| vec!["a caller panicked".into()]))
            .collect()
    });
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

fn open(stage: &Stage) -> Result<()> {
    stage.namespace(NAMESPACE, true)?;
    stage.namespace(OUTSIDE, false)?;
    let mut clients = shop::client("here", "node-1") + &shop::client("there", "node-2");
    clients += &shop::server("alone", "node-2");
    shop::apply(stage, OUTSIDE, &clients)?;
    let served = include_str!("services/served.yaml");
    let served =
        served.replace("@IMAGE@", APP).replace("@NAMESPACE@", NAMESPACE).replace("@OUTSIDE@", OUTSIDE);
    shop::apply(stage, NAMESPACE, &served)?;
    shop::apply(stage, NAMESPACE, &(shop::client("web", "node-1") + &shop::client("web-two", "node-2")))?;
    stage.rolled_out(OUTSIDE)?;
    rolled_out(stage)
}

fn rolled_out(stage: &Stage) -> Result<()> {
    let limit = format!("--timeout={}s", LONG.as_secs());
    stage.rolled_out(NAMESPACE)?;
    stage.cluster.kubectl(&["rollout", "status", "statefulset/set", "--namespace", NAMESPACE, &limit])?;
    stage.cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/last",
        "--namespace",
        NAMESPACE,
        &limit,
    ])?;
    timed(LONG, || stage.pod_address_of(NAMESPACE, "unready").map(drop)).map(drop)
}
