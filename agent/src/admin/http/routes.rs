//! What is served where.

use super::answer;
use crate::admin::{Admin, dump::config_dump};
use http_body_util::Full;
use hyper::{Method, Response, StatusCode, body::Bytes};
use std::sync::Arc;
use weft_io::{
    lifecycle::ready::Ready,
    telemetry::{self, Telemetry},
};

/// Answers requests. An answer is made at once: nothing here waits for anything.
pub trait Routes: Send + Sync + 'static {
    /// The answer to `method` at `path`, with `query` as it stands behind the question mark.
    fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Full<Bytes>>;
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// `/metrics` and `/stats/prometheus`.
pub struct MetricsRoutes(pub Arc<Telemetry>);

impl Routes for MetricsRoutes {
    fn answer(&self, method: &Method, path: &str, _: &str) -> Response<Full<Bytes>> {
        match path {
            "/metrics" | "/stats/prometheus" if reads(method) => {
                answer::of(StatusCode::OK, telemetry::CONTENT_TYPE, self.0.scrape())
            }
            "/metrics" | "/stats/prometheus" => answer::wrong_method("GET"),
            _ => answer::not_found("/metrics, /stats/prometheus"),
        }
    }
}

/// `/healthz/ready`.
pub struct ReadyRoutes(pub Ready);

impl Routes for ReadyRoutes {
    fn answer(&self, method: &Method, path: &str, _: &str) -> Response<Full<Bytes>> {
        if path != "/healthz/ready" {
            return answer::not_found("/healthz/ready");
        }
        if !reads(method) {
            return answer::wrong_method("GET");
        }
        let pending = self.0.pending();
        match pending.is_empty() {
            true => answer::text(StatusCode::OK, "ready"),
            false => answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready; waiting for: {}", pending.join(", ")),
            ),
        }
    }
}

/// `/config_dump` and `/logging`, for localhost.
pub struct AdminRoutes(pub Arc<Admin>);

impl Routes for AdminRoutes {
    fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Full<Bytes>> {
        match path {
            "/config_dump" if reads(method) => {
                answer::of(StatusCode::OK, "application/json", config_dump(&self.0).to_string())
            }
            "/config_dump" => answer::wrong_method("GET"),
            "/logging" => self.logging(method, query),
            _ if path.starts_with("/debug/pprof") => answer::text(
                StatusCode::NOT_FOUND,
                "this agent makes no profiles of itself; from its node, with symbols in place: \
                 perf record -g -p $(pidof weft-agent) -- sleep 10",
            ),
            _ => answer::not_found("/config_dump, /logging"),
        }
    }
}

impl AdminRoutes {
    /// `GET` tells the level; `POST /logging?level=…` changes it, so that no link that somebody follows does.
    fn logging(&self, method: &Method, query: &str) -> Response<Full<Bytes>> {
        let log = &self.0.log;
        let level = query.split('&').find_map(|pair| pair.strip_prefix("level="));
        match (method, level) {
            (&Method::POST, Some(level)) => match log.set(&level.replace("%2C", ",").replace("%3D", "=")) {
                Ok(()) => answer::text(StatusCode::OK, log.current()),
                Err(e) => answer::text(StatusCode::BAD_REQUEST, e.to_string()),
            },
            (&Method::POST, None) => {
                answer::text(StatusCode::BAD_REQUEST, "say which: POST /logging?level=info,weft_agent=debug")
            }
            (_, None) if reads(method) => answer::text(StatusCode::OK, log.current()),
            _ => answer::wrong_method("POST"),
        }
    }
}
