use super::*;
use crate::admin::sample::sample;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_io::lifecycle::ready::Ready;

/// Serves `routes` on a port of its own and sends `requests` to it, one connection each; the answers come back whole.
async fn ask(routes: impl Routes, requests: &[&str]) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, routes));
    let mut answers = Vec::new();
    for request in requests {
        let mut tcp = TcpStream::connect(at).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answers.push(answer);
    }
    server.abort();
    answers
}

#[tokio::test]
async fn metrics_are_openmetrics_at_both_paths() {
    let s = sample();
    let routes = MetricsRoutes(s.admin.telemetry.clone());
    let answers = ask(routes, &["GET /metrics", "GET /stats/prometheus", "GET /", "POST /metrics"]).await;
    for answer in &answers[..2] {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(answer.contains(content_type), "{answer}");
        assert!(answer.contains("\nistio_tcp_connections_opened_total{reporter="), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }
    assert!(answers[2].starts_with("HTTP/1.1 404 "), "{}", answers[2]);
    assert!(answers[3].starts_with("HTTP/1.1 405 "), "{}", answers[3]);
}

#[tokio::test]
async fn readiness_names_what_is_left_to_do() {
    let ready = Ready::new();
    let guard = ready.task("discovery");
    let [answer] = &ask(ReadyRoutes(ready.clone()), &["GET /healthz/ready"]).await[..] else { panic!() };
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("discovery"), "{answer}");
    drop(guard);
    let [answer] = &ask(ReadyRoutes(ready), &["GET /healthz/ready"]).await[..] else { panic!() };
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn who_holds_connections_keeps_nobody_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, ReadyRoutes(Ready::new())));
    let mut held = Vec::new();
    for _ in 0..=MAX_CONNECTIONS {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    let mut probe = TcpStream::connect(at).await.unwrap();
    probe.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(held[0].read(&mut [0]).await.unwrap_or(0), 0, "the oldest made room");
    server.abort();
}

#[tokio::test]
async fn the_config_dump_has_istios_keys() {
    let s = sample();
    let [answer] = &ask(AdminRoutes(s.admin.clone()), &["GET /config_dump"]).await[..] else { panic!() };
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let dump: serde_json::Value = serde_json::from_str(body).unwrap();
    let mut keys: Vec<_> = dump.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["certificates", "config", "policies", "services", "version", "workloadState", "workloads"]
    );
    assert_eq!(dump["workloads"].as_array().unwrap().len(), 5);
    assert_eq!(dump["services"][0]["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(dump["workloadState"]["connections"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_log_level_is_read_and_changed() {
    let s = sample();
    let answers = ask(
        AdminRoutes(s.admin.clone()),
        &[
            "GET /logging",
            "GET /logging?level=debug",
            "POST /logging?level=debug",
            "POST /logging?level=loud",
            "GET /debug/pprof/heap",
        ],
    )
    .await;
    let status: Vec<_> = answers.iter().map(|a| &a[9..12]).collect();
    assert_eq!(status, ["200", "405", "200", "400", "404"], "{answers:?}");
    assert_eq!(s.admin.log.current(), "debug");
    assert!(answers[0].ends_with("\r\n\r\ninfo\n"), "{}", answers[0]);
    assert!(answers[3].contains("`loud` is not a log level"), "{}", answers[3]);
    assert!(answers[4].contains("no profiles"), "{}", answers[4]);
}
