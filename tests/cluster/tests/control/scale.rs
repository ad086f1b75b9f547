//! What real objects in a real API server cost control: a measurement, run by name.

use crate::stage::Stage;
use anyhow::{Context, Result};
use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

/// Pods to a node.
const TOGETHER: usize = 20;

#[test]
#[ignore = "a measurement: cargo test -p weft-cluster --test control -- --ignored --nocapture, with WEFT_SCALE pods"]
fn real_objects_in_a_real_api() -> Result<()> {
    let pods: usize = std::env::var("WEFT_SCALE").map_or(Ok(5000), |text| text.parse())?;
    let stage = Stage::new()?;
    let begun = Instant::now();
    fill(&stage, pods)?;
    println!("{pods} pods are in the API after {:.0} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let mut control = stage.control("one", &[])?;
    let ready = begun.elapsed();
    let (cpu, memory) = usage(control.process.id())?;
    println!("control is ready in {:.1} s, {cpu:.1} s of CPU, {memory} MiB", ready.as_secs_f64());
    let known = r#"weft_control_resources{kind="address"}"#;
    control.until("every pod is known", |r| Ok(r.metric(known)? >= pods as u64))?;

    // Everything changes once, as fast as the API takes it.
    let (before, begun) = (usage(control.process.id())?.0, Instant::now());
    let all = ["label", "pods", "-n", "shop", "--all", "version=v2"];
    stage.kubectl().run(&all)?;
    let took = begun.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, memory) = usage(control.process.id())?;
    println!(
        "{pods} changes in {took:.0} s ({:.0}/s): control {:.1} s of CPU ({:.2} ms a change), {memory} MiB",
        pods as f64 / took,
        cpu - before,
        (cpu - before) / pods as f64 * 1e3
    );
    control.until("still ready", |r| Ok(r.get("/readyz")?.starts_with("ready")))
}

/// Pods that some scheduler placed, with no address yet: that costs the API one write for each, and control as much memory.
fn fill(stage: &Stage, pods: usize) -> Result<()> {
    const AT_ONCE: usize = 8;
    let file = stage.dir.path();
    let parts: Vec<_> = (0..AT_ONCE)
        .map(|part| {
            let path = file.join(format!("pods-{part}.yaml"));
            let mut text = String::new();
            for number in (part..pods).step_by(AT_ONCE) {
                let node = format!("node-{}", number / TOGETHER);
                let pod = crate::manifests::pod("shop", &format!("pod-{number}"), "web", &node);
                writeln!(text, "---\n{pod}")?;
            }
            fs::write(&path, text)?;
            Ok(path.display().to_string())
        })
        .collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .iter()
            .map(|path| scope.spawn(|| stage.kubectl().run(&["create", "--validate=false", "-f", path])))
            .collect();
        running.into_iter().try_for_each(|part| part.join().unwrap().map(drop))
    })
}

/// CPU seconds so far, and MiB of memory.
fn usage(process: u32) -> Result<(f64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("no stat")?.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no memory")?;
    let kib: u64 = memory.split_whitespace().next().context("no number")?.parse()?;
    Ok((ticks as f64 / 100.0, kib >> 10))
}
