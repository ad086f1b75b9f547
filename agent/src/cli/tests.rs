//! The command line against a real admin socket. What it prints stands in `tests/golden`; `WEFT_BLESS=1` rewrites it.

use super::{Cli, CliError, execute};
use crate::admin::{
    self,
    sample::{Sample, sample},
};
use clap::{CommandFactory, Parser};
use serde_json::Value;
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use weft_io::telemetry::Record;
use weft_model::Reason;

/// A directory of sockets with the sample agent of `node-1` behind one of them.
struct Node {
    sample: Sample,
    sockets: TempDir,
    server: JoinHandle<()>,
}

impl Node {
    async fn start() -> Self {
        let sockets = tempfile::tempdir().unwrap();
        let sample = sample();
        let server = serve(&sample, sockets.path(), "node-1").await;
        Self { sample, sockets, server }
    }

    async fn run(&self, args: &[&str]) -> Result<String, CliError> {
        run(self.sockets.path(), args).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn socket(sockets: &Path, node: &str) -> PathBuf {
    sockets.join(node).join("admin.sock")
}

async fn serve(sample: &Sample, sockets: &Path, node: &str) -> JoinHandle<()> {
    fs::create_dir(sockets.join(node)).unwrap();
    let (path, admin) = (socket(sockets, node), sample.admin.clone());
    let server = tokio::spawn(async move { admin::serve(&path, admin).await.unwrap() });
    for _ in 0..1000 {
        if socket(sockets, node).exists() {
            return server;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the admin socket did not appear");
}

async fn run(sockets: &Path, args: &[&str]) -> Result<String, CliError> {
    let cli = Cli::try_parse_from(["weft-agent"].iter().chain(args)).unwrap();
    let mut out = Vec::new();
    execute(cli, sockets, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/tests/golden").join(name);
    if std::env::var_os("WEFT_BLESS").is_some() {
        fs::write(&path, found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap();
    assert_eq!(found, wanted, "{name} differs; WEFT_BLESS=1 rewrites it");
}

/// JSON with everything that depends on the clock taken out.
fn timeless(json: &str) -> String {
    fn clean(value: &mut Value) {
        const CLOCK: [&str; 9] = [
            "time",
            "since",
            "started",
            "duration_ms",
            "not_before",
            "not_after",
            "next_expiry",
            "certificate",
            "last_ended",
        ];
        match value {
            Value::Object(map) => map.iter_mut().for_each(|(key, v)| match CLOCK.contains(&key.as_str()) {
                true if v != "" => *v = "(clock)".into(),
                _ => clean(v),
            }),
            Value::Array(all) => all.iter_mut().for_each(clean),
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_str(json).unwrap();
    clean(&mut value);
    format!("{value:#}\n")
}

#[test]
fn the_flags_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_an_example() {
    for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("weft-agent"), "{}", command.get_name());
    }
}

#[tokio::test]
async fn tables_and_json_are_as_documented() {
    let node = Node::start().await;
    for name in ["status", "workloads", "services", "policies", "certificates", "connections", "bpf", "log"] {
        golden(&format!("{name}.txt"), &node.run(&[name]).await.unwrap());
        golden(&format!("{name}.json"), &timeless(&node.run(&[name, "-o", "json"]).await.unwrap()));
    }
    golden("older.txt", &node.run(&["connections", "--older"]).await.unwrap());
    golden("older.json", &timeless(&node.run(&["connections", "--older", "-o", "json"]).await.unwrap()));
    golden("flows.json", &timeless(&node.run(&["flows", "-o", "json"]).await.unwrap()));
}

#[tokio::test]
async fn explanations_read_from_top_to_bottom() {
    let node = Node::start().await;
    for (name, from, to) in [
        ("tunnel", "shop/web-0", "db:80"),
        ("denied", "shop/cart-0", "db.shop.svc.cluster.local:80"),
        ("direct", "shop/web-0", "shop/cart-0:8080"),
        ("unmeshed", "shop/old-0", "10.0.1.1:80"),
        ("outside", "shop/web-0", "192.0.2.1:443"),
        ("port", "shop/web-0", "db.shop:81"),
    ] {
        let text = node.run(&["explain", "--from", from, "--to", to]).await.unwrap();
        // The one line that tells a time.
        let text: Vec<_> = text.lines().map(|l| l.split(", until 2").next().unwrap()).collect();
        golden(&format!("explain-{name}.txt"), &format!("{}\n", text.join("\n")));
    }
    let json = node.run(&["explain", "--from", "shop/web-0", "--to", "db:80", "-o", "json"]).await.unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["policy"], "shop/db-from-web");
    assert_eq!(json["dry_run_policy"], "shop/db-trial");
    assert_eq!(json["expected_identities"][0], "spiffe://cluster.local/ns/shop/sa/db");
}

#[tokio::test]
async fn what_cannot_be_explained_says_what_to_write() {
    let node = Node::start().await;
    for (from, to, error) in [
        ("web-0", "db:80", "`web-0` does not name a pod: write NAMESPACE/NAME"),
        ("shop/none", "db:80", "there is no pod shop/none"),
        ("shop/web-0", "db", "`db` does not say where to"),
        ("shop/web-0", "db:0", "`db:0` does not say where to"),
        ("shop/web-0", "nowhere:80", "`nowhere` is no address, and no service or pod"),
        ("shop/web-0", "shop/none:80", "there is no pod shop/none"),
    ] {
        let found = node.run(&["explain", "--from", from, "--to", to]).await.unwrap_err().to_string();
        assert!(found.starts_with(error), "{found}");
    }
}

#[tokio::test]
async fn flows_are_filtered() {
    let node = Node::start().await;
    for (args, count) in [
        (&[][..], 4),
        (&["--verdict", "denied"], 1),
        (&["--verdict", "failed"], 0),
        (&["--from", "shop/cart-0"], 1),
        (&["--from", "web-0", "--verdict", "allowed"], 2),
        (&["--to", "db.shop.svc.cluster.local"], 1),
        (&["--to", "10.0.1.1"], 2),
        (&["--from", "192.0.2.7"], 1),
        (&["--to", "other"], 0),
    ] {
        let args: Vec<_> = ["flows", "-o", "json"].iter().chain(args).copied().collect();
        let flows: Vec<Value> = serde_json::from_str(&node.run(&args).await.unwrap()).unwrap();
        assert_eq!(flows.len(), count, "{args:?}");
    }
    let table = node.run(&["flows", "--to", "other"]).await.unwrap();
    assert_eq!(table, "no flows; --follow waits for some\n");
}

/// What a running command has printed so far.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    /// Waits until `count` lines stand there.
    async fn lines(&self, count: usize) -> Vec<String> {
        for _ in 0..1000 {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} lines never came");
    }
}

/// A connection of web to db through a tunnel, as the sample's first one.
fn record_like(node: &Node, index: usize) -> Record {
    let facts = node.sample.records[index].live().facts();
    node.sample.admin.telemetry.worker(0).record(facts)
}

#[tokio::test]
async fn flows_are_followed_through_their_filters() {
    let node = Node::start().await;
    let args = "weft-agent flows --follow --from shop/web-0 --to db --verdict allowed -o json";
    let (cli, screen) = (Cli::try_parse_from(args.split(' ')).unwrap(), Screen::default());
    let (sockets, mut out) = (node.sockets.path().to_owned(), screen.clone());
    // The command runs where it was started, as in the program.
    let following = async { execute(cli, &sockets, &mut out).await };
    let lines = async {
        // The one that lives comes first; from then on it watches.
        screen.lines(1).await;
        let record = record_like(&node, 0);
        record.open();
        record_like(&node, 1).finish(Reason::Ok);
        record_like(&node, 0).finish(Reason::PolicyDenied);
        record.counters().add_to_server(7);
        record.finish(Reason::ClientReset);
        screen.lines(3).await
    };
    let lines = tokio::select! {
        ended = following => panic!("following has ended: {ended:?}"),
        lines = lines => lines,
    };
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|l| (l["event"].as_str(), l["reason"].as_str())).collect();
    let (open, close) = ((Some("open"), Some("")), (Some("close"), Some("client_reset")));
    assert_eq!(told, [open, open, close]);
    assert_eq!(lines[2]["connection"]["bytes_to_server"], 7);
    assert!(lines.iter().all(|l| l["connection"]["destination"]["workload"] == "db-0"));
}

#[tokio::test]
async fn a_connection_is_closed_by_its_id() {
    let node = Node::start().await;
    let record = &node.sample.records[0];
    let id = record.live().id.to_string();
    node.run(&["connections", "--close", &id]).await.unwrap();
    assert_eq!(record.close_requested().await.as_str(), "closed_by_operator");
    let error = node.run(&["connections", "--close", "1"]).await.unwrap_err().to_string();
    assert_eq!(error, "there is no connection 1; `connections` lists those that live");
    let direct = node.sample.records[1].live().id.to_string();
    let error = node.run(&["connections", "--close", &direct]).await.unwrap_err().to_string();
    assert!(error.contains("joined by the kernel"), "{error}");
}

#[tokio::test]
async fn older_connections_are_those_of_a_pod_and_are_reset_when_that_is_meant() {
    let node = Node::start().await;
    let older = ["connections", "--older", "--pod"];
    let run = async |rest: &[&str]| node.run(&[&older, rest].concat()).await;
    let listed = run(&["shop/web-0"]).await.unwrap();
    assert!(listed.contains("shop/db-0 (10.0.2.1:5432)") && !listed.contains("old-0"), "{listed}");
    let unmeant = run(&["shop/web-0", "--reset"]).await.unwrap_err().to_string();
    assert!(unmeant.contains("1 connections of shop/web-0") && unmeant.contains("--yes"), "{unmeant}");
    let done = run(&["shop/web-0", "--reset", "--yes"]).await.unwrap();
    assert_eq!(done, "1 connections of shop/web-0 are reset\n");
    let nobody = run(&["shop/none", "--reset", "--yes"]).await.unwrap_err().to_string();
    assert!(nobody.contains("shop/none: no such pod"), "{nobody}");
    let odd = run(&["web-0", "--reset", "--yes"]).await.unwrap_err().to_string();
    assert!(odd.contains("NAMESPACE/NAME"), "{odd}");
    for odd in [&["--pod", "a/b"][..], &["--older", "--reset"], &["--older", "--close", "1"]] {
        assert!(Cli::try_parse_from(["weft-agent", "connections"].iter().chain(odd)).is_err(), "{odd:?}");
    }
}

#[tokio::test]
async fn the_log_level_is_changed_from_afar() {
    let node = Node::start().await;
    assert_eq!(node.run(&["log", "warn,weft_agent=debug"]).await.unwrap(), "warn,weft_agent=debug\n");
    assert_eq!(node.run(&["log"]).await.unwrap(), "warn,weft_agent=debug\n");
    let error = node.run(&["log", "loud"]).await.unwrap_err().to_string();
    assert!(error.starts_with("`loud` is not a log level"), "{error}");
}

#[tokio::test]
async fn the_config_dump_is_json_and_yaml() {
    let node = Node::start().await;
    let json: Value = serde_json::from_str(&node.run(&["config-dump"]).await.unwrap()).unwrap();
    let yaml: Value =
        serde_yaml_ng::from_str(&node.run(&["config-dump", "-o", "yaml"]).await.unwrap()).unwrap();
    assert_eq!(json["policies"], yaml["policies"]);
    assert_eq!(json["config"]["node"], "node-1");
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_agent() {
    let node = Node::start().await;
    let path = socket(node.sockets.path(), "node-1");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    node.server.abort();
    for _ in 0..1000 {
        if !path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the socket is still there");
}

#[tokio::test]
async fn errors_name_the_socket_and_the_mend() {
    let empty = tempfile::tempdir().unwrap();
    let error = run(empty.path(), &["status"]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "no agent's socket in {}: is the agent running? Start it with `weft-agent run`, or give --socket PATH",
            empty.path().display()
        )
    );
    let error = run(empty.path(), &["status", "--node", "n9"]).await.unwrap_err().to_string();
    let at = socket(empty.path(), "n9");
    assert_eq!(error, format!("{}: there is no such socket; is the agent running?", at.display()));
    // What a killed agent leaves behind.
    fs::create_dir(empty.path().join("n9")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&at).unwrap());
    let error = run(empty.path(), &["status"]).await.unwrap_err().to_string();
    assert_eq!(error, format!("{}: nobody answers; is the agent running?", at.display()));
}

#[tokio::test]
async fn of_several_agents_one_must_be_named() {
    let node = Node::start().await;
    let other = sample();
    let server = serve(&other, node.sockets.path(), "node-2").await;
    let error = node.run(&["log"]).await.unwrap_err().to_string();
    assert_eq!(error, "several agents run here (node-1, node-2): choose one with --node NAME");
    assert_eq!(node.run(&["log", "--node", "node-2"]).await.unwrap(), "info\n");
    let path = socket(node.sockets.path(), "node-1");
    assert_eq!(node.run(&["--socket", path.to_str().unwrap(), "log"]).await.unwrap(), "info\n");
    server.abort();
}

#[tokio::test]
async fn a_new_agent_takes_over_the_socket_of_a_dead_one() {
    let sockets = tempfile::tempdir().unwrap();
    fs::create_dir(sockets.path().join("dead")).unwrap();
    let path = socket(sockets.path(), "dead");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let sample = sample();
    let (admin, at) = (sample.admin.clone(), path.clone());
    let server = tokio::spawn(async move { admin::serve(&at, admin).await.unwrap() });
    for _ in 0..1000 {
        if let Ok(log) = run(sockets.path(), &["log"]).await {
            assert_eq!(log, "info\n");
            server.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the new agent never answered");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    fs::write(&path, "mine").unwrap();
    let error = admin::serve(&path, sample().admin.clone()).await.unwrap_err().to_string();
    assert!(error.contains("is not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[tokio::test]
async fn completions_know_the_commands() {
    let none = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(none.path(), &["completions", shell]).await.unwrap();
        assert!(script.contains("config-dump") && script.contains("certificates"), "{shell}");
    }
}
