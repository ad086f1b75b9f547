//! Connections that are older than a pod's last step into the mesh or out of it: what is noted of them, as the kernel has it now.

use super::View;
use crate::{
    admin::{OlderError, convert, proto},
    pods::{
        Netns, PodSpec, Sandbox,
        older::{Note, Open, live, reset as reset_all},
    },
};
use std::{io, sync::Arc};
use weft_model::{NetworkAddress, Snapshot};

/// Those of one pod (`namespace/name`), or of all.
pub(super) fn list(view: &View, wanted: &str) -> Result<Vec<proto::OlderConnection>, OlderError> {
    let snapshot = view.snapshots.load();
    let (mut items, mut seen) = (Vec::new(), Vec::new());
    for listed in view.roster.listed.load().iter() {
        let Some(netns) = open(&listed.spec) else { continue };
        seen.push(netns.cookie());
        if !wanted.is_empty() && listed.spec.to_string() != wanted {
            continue;
        }
        match of(view, &listed.spec, &netns) {
            Ok(Some((note, open))) => {
                items.extend(open.iter().map(|one| told(view, &snapshot, &listed.spec, &note, one)));
            }
            Ok(None) => {}
            Err(error) if !wanted.is_empty() => return Err(error),
            Err(error) => tracing::warn!(%error, "a pod's older connections are not listed"),
        }
    }
    // Of pods that went while no agent watched.
    view.notes.keep_only(&seen);
    Ok(items)
}

/// Resets those of one pod.
pub(super) fn reset(view: &View, wanted: &str) -> Result<proto::OlderReset, OlderError> {
    let listed = view.roster.listed.load();
    let Some(listed) = listed.iter().find(|listed| listed.spec.to_string() == wanted) else {
        return Ok(proto::OlderReset::default());
    };
    let none = proto::OlderReset { found: true, count: 0 };
    let Some(netns) = open(&listed.spec) else { return Ok(none) };
    let Some((_, open)) = of(view, &listed.spec, &netns)? else { return Ok(none) };
    let count = reset_all(&netns, &open).map_err(failed(&listed.spec, "cannot reset a connection"))?;
    tracing::info!(pod = %listed.spec, reset = count, "older connections are reset, as somebody asked");
    Ok(proto::OlderReset { found: true, count: count as u64 })
}

/// What is noted of a pod, and what of it lives.
fn of(view: &View, spec: &PodSpec, netns: &Netns) -> Result<Option<(Note, Vec<Open>)>, OlderError> {
    let note = view.notes.read(netns.cookie()).map_err(failed(spec, "cannot read what was noted"))?;
    let Some(note) = note else { return Ok(None) };
    let open = live(netns, &note).map_err(failed(spec, "cannot list the pod's connections"))?;
    if open.is_empty() {
        view.notes.forget(netns.cookie());
    }
    Ok(Some((note, open)))
}

fn failed(spec: &PodSpec, doing: &'static str) -> impl FnOnce(io::Error) -> OlderError {
    let pod = spec.to_string();
    move |source| OlderError { pod, doing, source }
}

/// The pod's namespace; none where it has none (any more).
fn open(spec: &PodSpec) -> Option<Arc<Netns>> {
    match &spec.netns {
        Sandbox::At(path) => Netns::open(path).ok().map(Arc::new),
        Sandbox::Held(netns) => Some(netns.clone()),
        Sandbox::Awaited => None,
    }
}

fn told(
    view: &View,
    snapshot: &Snapshot,
    spec: &PodSpec,
    note: &Note,
    open: &Open,
) -> proto::OlderConnection {
    let at = NetworkAddress::new(view.config.network.as_str().into(), open.remote.ip());
    let workload = snapshot.workload_at(&at);
    proto::OlderConnection {
        namespace: spec.namespace.to_string(),
        pod: spec.name.to_string(),
        direction: if open.inbound { "inbound" } else { "outbound" }.to_owned(),
        local: open.local.to_string(),
        peer: Some(proto::Peer {
            address: open.remote.to_string(),
            namespace: workload.map(|w| w.namespace.to_string()).unwrap_or_default(),
            workload: workload.map(|w| w.name.to_string()).unwrap_or_default(),
            // Nobody has shown any.
            identity: String::new(),
        }),
        service: snapshot.service_at(&at).map(|s| s.service.key.hostname.to_string()).unwrap_or_default(),
        change: note.change.as_str().to_owned(),
        since: convert::time(note.at),
    }
}
