//! Control with a large mesh that changes all the time: memory and CPU of control, bytes and time to a node, memory of a node.
//!
//! `cargo bench -p weft-control --bench scale` runs control and nodes as processes of their own, over real sockets and TLS. The
//! objects are generated and go the way of all objects from the parser on; what the API server adds is measured elsewhere.
#![allow(clippy::unwrap_used, reason = "a measurement ends at its first surprise")]

#[path = "scale/control.rs"]
mod control;
#[path = "scale/crowd.rs"]
mod crowd;
#[path = "scale/forward.rs"]
mod forward;
#[path = "scale/generate.rs"]
mod generate;
#[path = "scale/node.rs"]
mod node;
#[path = "scale/process.rs"]
mod process;

use process::Child;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How long a rate of changes is held.
const HOLD: Duration = Duration::from_secs(15);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["control", dir, workloads] => control::run(Path::new(dir), workloads.parse().unwrap()),
        ["node", dir, address] => node::run(Path::new(dir), address),
        ["crowd", dir, address, count] => crowd::run(Path::new(dir), address, count.parse().unwrap()),
        [] => [10_000, 30_000, 100_000].into_iter().for_each(|workloads| measure(workloads, &[])),
        [workloads] => measure(workloads.parse().unwrap(), &[0, 20, 100]),
        _ => panic!("scale [WORKLOADS]"),
    }
}

/// Measures one size of mesh, and with these many nodes more.
fn measure(workloads: usize, crowds: &[usize]) {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut control = Child::start(&["control", &dir.path().display().to_string(), &workloads.to_string()]);
    let address = control.line();
    let (ready, first) = (begun.elapsed(), control.usage());
    println!(
        "{workloads} workloads, {} nodes: control ready in {:.1} s with {:.1} s of CPU; {} MiB, {} at most",
        workloads / generate::PODS_PER_NODE,
        ready.as_secs_f64(),
        first.cpu.as_secs_f64(),
        first.memory >> 20,
        first.most >> 20
    );
    let (door, bytes) = forward::open(&address);
    let begun = Instant::now();
    let mut node = Child::start(&["node", &dir.path().display().to_string(), &door.to_string()]);
    assert_eq!(node.line(), "synced");
    let (synced, used) = (begun.elapsed(), node.usage());
    println!(
        "  a node has it all in {:.2} s: {:.1} MB, {:.2} s of CPU; {} MiB, {} at most; control {} MiB, {:.2} s of CPU",
        synced.as_secs_f64(),
        bytes.take() as f64 / 1e6,
        used.cpu.as_secs_f64(),
        used.memory >> 20,
        used.most >> 20,
        control.usage().memory >> 20,
        (control.usage().cpu - first.cpu).as_secs_f64(),
    );
    for rate in [100, 1000] {
        hold(&mut control, &mut node, &bytes, rate, 0);
    }
    for &count in crowds.iter().filter(|count| **count > 0) {
        let before = control.usage();
        let begun = Instant::now();
        let mut crowd =
            Child::start(&["crowd", &dir.path().display().to_string(), &address, &count.to_string()]);
        assert_eq!(crowd.line(), "held");
        println!(
            "  {count} nodes come back that hold everything: {:.1} s, {:.1} s of CPU of control; {} MiB",
            begun.elapsed().as_secs_f64(),
            (control.usage().cpu - before.cpu).as_secs_f64(),
            control.usage().memory >> 20
        );
        hold(&mut control, &mut node, &bytes, 1000, count);
    }
}

/// So many changes a second, for a while.
fn hold(control: &mut Child, node: &mut Child, bytes: &forward::Count, rate: usize, others: usize) {
    control.say(&rate.to_string());
    // What the step itself costs is not the question.
    thread::sleep(Duration::from_secs(2));
    node.say("lag");
    node.line();
    bytes.take();
    let (control_before, node_before, begun) = (control.usage(), node.usage(), Instant::now());
    thread::sleep(HOLD);
    let seconds = begun.elapsed().as_secs_f64();
    let (control_after, node_after) = (control.usage(), node.usage());
    node.say("lag");
    println!(
        "  {rate} changes/s, {} nodes: control {:.0} % of a core, {} MiB; a node {:.0} %, {:.0} kB/s, {} MiB; from change to node {}",
        others + 1,
        (control_after.cpu - control_before.cpu).as_secs_f64() / seconds * 100.0,
        control_after.memory >> 20,
        (node_after.cpu - node_before.cpu).as_secs_f64() / seconds * 100.0,
        bytes.take() as f64 / seconds / 1e3,
        node_after.memory >> 20,
        node.line(),
    );
    control.say("0");
}
