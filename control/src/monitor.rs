//! The monitoring port: metrics, readiness, and what control knows.

use crate::{metrics::Metrics, serve::agents::Agents};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, header::CONTENT_TYPE, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use weft_index::Finding;

/// Scrapers and probes are few; whoever opens more has no business here.
const CONNECTIONS: usize = 64;

/// What the port shows.
#[derive(Clone)]
pub(crate) struct Monitor {
    pub metrics: Arc<Metrics>,
    pub agents: Arc<Agents>,
    pub ready: watch::Receiver<bool>,
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
}

impl Monitor {
    /// Answers until `shutdown`.
    pub(crate) async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "monitoring connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let monitor = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let monitor = monitor.clone();
                    async move { Ok::<_, Infallible>(monitor.answer(&request)) }
                });
                let serve = hyper::server::conn::http1::Builder::new()
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answer);
                if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(30), serve).await {
                    tracing::debug!(%error, "monitoring connection");
                }
                drop(place);
            });
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/metrics" => match self.metrics.render(&self.agents.list()) {
                Ok(text) => {
                    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    response(StatusCode::OK, form, text)
                }
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n"),
            },
            "/livez" => plain(StatusCode::OK, "alive\n"),
            "/readyz" | "/healthz/ready" if *self.ready.borrow() => plain(StatusCode::OK, "ready\n"),
            "/readyz" | "/healthz/ready" => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "the objects are not read yet\n")
            }
            "/debug/agents" => json(&self.agents.list()),
            "/debug/findings" => json(&**self.findings.borrow()),
            _ => plain(StatusCode::NOT_FOUND, "/metrics /readyz /livez /debug/agents /debug/findings\n"),
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.to_owned())
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => response(StatusCode::OK, "application/json", text),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be written as JSON\n"),
    }
}

fn response(status: StatusCode, form: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(form));
    response
}
