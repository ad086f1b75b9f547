//! The flows that somebody asked for.

use super::{convert::connection::flow, proto};
use std::{net::IpAddr, sync::Arc, time::SystemTime};
use tokio::sync::mpsc;
use tonic::Status;
use weft_io::telemetry::{Facts, FlowEvent, Live, Telemetry};
use weft_model::{Reason, Workload, snapshot::ServiceEntry};

/// How many flows may wait for a slow command line before the agent stops reading its own stream for it.
const WAITING: usize = 256;

/// Which flows are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    from: Option<End>,
    to: Option<End>,
    verdict: Option<String>,
}

impl Filter {
    /// The filter of `request`; an unknown verdict is refused.
    pub fn new(request: &proto::FlowsRequest) -> Result<Self, Status> {
        let verdict = Some(request.verdict.clone()).filter(|v| !v.is_empty());
        if let Some(v) = &verdict
            && !["allowed", "denied", "failed"].contains(&v.as_str())
        {
            return Err(Status::invalid_argument(format!(
                "`{v}` is no verdict: it is allowed, denied or failed"
            )));
        }
        Ok(Self { from: End::new(&request.from), to: End::new(&request.to), verdict })
    }

    fn takes(&self, facts: &Facts, reason: Option<Reason>) -> bool {
        let verdict = super::convert::connection::verdict(reason);
        self.verdict.as_deref().is_none_or(|v| v == verdict)
            && (self.from.as_ref())
                .is_none_or(|e| e.is(facts.source_addr.ip(), facts.source.as_deref(), None))
            && (self.to.as_ref()).is_none_or(|e| {
                e.is(facts.destination_addr.ip(), facts.destination.as_deref(), facts.service.as_deref())
            })
    }
}

/// One end of a flow, as people name it.
#[derive(Clone, Debug)]
enum End {
    Address(IpAddr),
    /// `namespace/name`, of a pod, its owner or a service.
    Full(String, String),
    /// A namespace, or a name in any.
    Word(String),
}

impl End {
    fn new(s: &str) -> Option<Self> {
        if s.is_empty() {
            return None;
        }
        Some(match (s.parse::<IpAddr>(), s.split_once('/')) {
            (Ok(ip), _) => End::Address(ip.to_canonical()),
            (_, Some((namespace, name))) => End::Full(namespace.to_owned(), name.to_owned()),
            _ => End::Word(s.to_owned()),
        })
    }

    fn is(&self, ip: IpAddr, workload: Option<&Workload>, service: Option<&ServiceEntry>) -> bool {
        let service = service.map(|s| &s.service);
        match self {
            End::Address(wanted) => *wanted == ip.to_canonical(),
            End::Full(namespace, name) => {
                let name = name.as_str();
                workload.is_some_and(|w| {
                    *w.namespace == **namespace && [&*w.name, &*w.workload_name].contains(&name)
                }) || service.is_some_and(|s| {
                    *s.key.namespace == **namespace && [&*s.name, &*s.key.hostname].contains(&name)
                })
            }
            End::Word(word) => {
                let word = word.as_str();
                workload.is_some_and(|w| [&*w.namespace, &*w.name, &*w.workload_name].contains(&word))
                    || service
                        .is_some_and(|s| [&*s.key.namespace, &*s.name, &*s.key.hostname].contains(&word))
            }
        }
    }
}

/// What ended lately and what lives now, oldest first.
fn history(telemetry: &Telemetry, filter: &Filter) -> Vec<proto::Flow> {
    let mut found: Vec<(SystemTime, proto::Flow)> = Vec::new();
    let mut take = |event, at, live: &Live, reason| {
        if live.with_facts(|f| filter.takes(f, reason)) {
            found.push((at, flow(event, at, live, reason)));
        }
    };
    for e in telemetry.connections.ended() {
        let event = if e.opened { FlowEvent::Close } else { FlowEvent::Refused };
        take(event, e.at, &e.connection, Some(e.reason));
    }
    for live in telemetry.connections.snapshot().iter().filter(|c| c.is_open()) {
        take(FlowEvent::Open, live.started_at(), live, None);
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, flow)| flow).collect()
}

/// Sends the flows that `filter` takes: the past, and with `follow` what happens from now on, until the reader leaves.
pub fn stream(
    telemetry: Arc<Telemetry>,
    filter: Filter,
    follow: bool,
) -> mpsc::Receiver<Result<proto::Flow, Status>> {
    let (out, flows) = mpsc::channel(WAITING);
    // Watching begins before the past is read, so that nothing falls between the two.
    let watch = follow.then(|| telemetry.flows.watch());
    tokio::spawn(async move {
        for flow in history(&telemetry, &filter) {
            if out.send(Ok(flow)).await.is_err() {
                return;
            }
        }
        let Some(mut watch) = watch else { return };
        loop {
            let next = tokio::select! {
                next = watch.next() => next,
                () = out.closed() => return,
            };
            let Some(f) = next else { return };
            if f.connection.with_facts(|facts| filter.takes(facts, f.reason)) {
                let told = flow(f.event, f.at, &f.connection, f.reason);
                if out.send(Ok(told)).await.is_err() {
                    return;
                }
            }
        }
    });
    flows
}
