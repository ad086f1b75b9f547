//! The HTTP endpoints: admin (localhost only), metrics, readiness. Each has a listener of its own, as in Istio.

mod answer;
mod routes;

pub use routes::{AdminRoutes, MetricsRoutes, ReadyRoutes, Routes};

use crate::lanes::{Complaint, remedy};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

/// Connections served at once on one listener: scrapers, probes and a person or two. One more ends the oldest, so that
/// nobody keeps the kubelet's probe out by holding connections.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after `accept` failed: it fails for want of files, which does not end at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `routes` on `listener` until the future is dropped; its connections end with it.
pub async fn serve(listener: TcpListener, routes: impl Routes) {
    let routes = Arc::new(routes);
    let complaint = Complaint::default();
    let (mut connections, mut oldest_first) = (JoinSet::new(), VecDeque::new());
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                if complaint.due().is_some() {
                    tracing::warn!(%error, "an HTTP connection waits: {}", remedy(&error));
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|task: &AbortHandle| !task.is_finished());
        if oldest_first.len() >= MAX_CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let routes = routes.clone();
        oldest_first.push_back(connections.spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let response = respond(&*routes, &request);
                async { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(tcp), answer)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "an HTTP connection broke");
            }
        }));
    }
}

fn respond(routes: &impl Routes, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    routes.answer(request.method(), request.uri().path(), request.uri().query().unwrap_or_default())
}

#[cfg(test)]
mod tests;
