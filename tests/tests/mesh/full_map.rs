//! A full map of the kernel: the pod that finds no room is named with the mend, the others are served, and it enters when
//! there is room.

use crate::stage::{SOON, Way, well};
use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use serde_json::Value;
use std::{fs, path::PathBuf};
use weft_ebpf_abi::Workload;
use weft_tests::{Mesh, eventually, require_kernel, sweep::BPFFS};

/// Pods that one node's map has room for.
const ROOM: usize = 4096;

/// An entry, as bytes.
type Entry = [u8; size_of::<Workload>()];

/// The pinned map of a node's pods.
fn workloads(mesh: &Mesh, node: &str) -> Result<HashMap<MapData, u64, Entry>> {
    let pins = PathBuf::from(BPFFS).join(mesh.cluster.run.name()).join(node);
    let maps = fs::read_dir(&pins)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"maps-")));
    let path = maps.with_context(|| format!("no maps in {}", pins.display()))?.join("WORKLOADS");
    Ok(HashMap::try_from(Map::HashMap(MapData::from_pin(path)?))?)
}

/// The pods of a node by their state, with their errors.
fn pods(mesh: &Mesh, node: &str) -> Result<Vec<(String, String, String)>> {
    let status = mesh.agents[node].ask(&["status"])?;
    ensure!(status["ready"] == true, "{status}");
    let text = |pod: &Value, key: &str| pod[key].as_str().unwrap_or_default().to_owned();
    let all = status["pods"].as_array().context("no pods")?;
    let all = all.iter().filter(|pod| pod["namespace"] == "bookshop");
    Ok(all.map(|pod| (text(pod, "name"), text(pod, "state"), text(pod, "error"))).collect())
}

#[test]
fn a_pod_without_room_in_a_map_is_named_and_the_others_are_served() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    const NODE: &str = "node-b";
    let mut mesh = Mesh::bookshop("full-map")?;
    let with = fs::read_to_string(mesh.control.manifests.join("20-namespaces.yaml"))?;
    let without = with.replace("weft.dev/mesh: enabled", "weft.dev/mesh: disabled");
    ensure!(with != without, "the example has changed");
    mesh.control.apply("20-namespaces.yaml", &without)?;
    let in_state = |mesh: &Mesh, state: &str| -> Result<Vec<(String, String, String)>> {
        Ok(pods(mesh, NODE)?.into_iter().filter(|(_, s, _)| s == state).collect())
    };
    eventually(SOON, || {
        ensure!(in_state(&mesh, "enrolled")?.is_empty(), "{:?}", pods(&mesh, NODE)?);
        Ok(())
    })?;
    // Room for one pod is left. Cookies of this size are never given.
    let fakes: Vec<u64> = (0..ROOM as u64 - 1).map(|n| u64::MAX - n).collect();
    let mut map = workloads(&mesh, NODE)?;
    fakes.iter().try_for_each(|cookie| map.insert(cookie, [0; size_of::<Workload>()], 0))?;
    mesh.control.apply("20-namespaces.yaml", &with)?;
    let left_out = eventually(SOON, || {
        let (failed, enrolled) = (in_state(&mesh, "failed")?, in_state(&mesh, "enrolled")?);
        ensure!(failed.len() == 1 && enrolled.len() == 1, "{:?}", pods(&mesh, NODE)?);
        let (name, _, error) = &failed[0];
        let parts = ["WORKLOADS", "the map is full", "weft-agent bpf", "spread the pods"];
        ensure!(parts.iter().all(|part| error.contains(part)), "{error}");
        Ok((name.clone(), enrolled[0].0.clone()))
    })?;
    let (failed, enrolled) = left_out;
    let agent = mesh.agent(NODE)?;
    let complaint = |line: &&str| line.contains("cannot be enrolled") && line.contains(&failed);
    agent.process().wait_for_line(SOON, |line| complaint(&line) && line.contains("WORKLOADS"))?;
    let bpf = agent.ask(&["bpf"])?;
    let map_shown = bpf["maps"].as_array().into_iter().flatten().find(|map| map["name"] == "WORKLOADS");
    let map_shown = map_shown.context("no such map")?;
    ensure!(map_shown["entries"] == ROOM && map_shown["capacity"] == ROOM, "{map_shown}");
    // The pod that found room is in the mesh, and so are the pods of the other node.
    let to = format!("bookshop/{enrolled}");
    for address in mesh.pod(&to)?.manifest.addresses.both() {
        eventually(SOON, || well(&to, &mesh.get("bookshop/web", (address, 8080).into())?))?;
    }
    let complaints = mesh.agent(NODE)?.process().log()?.lines().filter(complaint).count();
    ensure!(complaints == 1, "it complains {complaints} times");
    // Room again: it enters by itself.
    fakes.iter().try_for_each(|cookie| map.remove(cookie))?;
    eventually(SOON, || {
        ensure!(in_state(&mesh, "enrolled")?.len() == 2, "{:?}", pods(&mesh, NODE)?);
        Ok(())
    })?;
    for to in (Way { path: "tunnel", from: "bookshop/web", to: "bookshop/reviews" }).targets(&mesh, 8080)? {
        eventually(SOON, || well("afterwards", &mesh.get("bookshop/web", to)?))?;
    }
    Ok(())
}
