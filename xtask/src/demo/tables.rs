//! The demo as people read it.

use super::{
    calls::{Answer, Door},
    claims::Claims,
    cost::Cost,
    report::NotShown,
};
use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets};
use serde_json::Value;
use std::{
    io::{self, Write},
    time::Instant,
};
use weft_tests::{kernel::Missing, wire::Wire};

/// Tells the story: on standard output, or only its progress on standard error when the output is for programs.
pub struct Teller {
    data: bool,
    begun: Instant,
}

impl Teller {
    /// A teller for programs (`data`) or for people.
    pub fn new(data: bool) -> Self {
        Self { data, begun: Instant::now() }
    }

    /// Whether standard output is for programs.
    pub fn is_data(&self) -> bool {
        self.data
    }

    /// A new part of the story.
    pub fn chapter(&self, title: &str, subtitle: &str) {
        self.line(&format!("\n▌ {title} ({:.0} s)\n  {subtitle}", self.begun.elapsed().as_secs_f64()));
    }

    /// A line.
    pub fn line(&self, text: &str) {
        // A reader that has seen enough and left (`| head`) is no reason to leave things half done.
        let told =
            if self.data { writeln!(io::stderr(), "{text}") } else { writeln!(io::stdout(), "{text}") };
        drop(told);
    }

    fn table(&self, header: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) {
        if self.data {
            return;
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(header.to_vec());
        table
            .set_style(TableComponent::HeaderLines, '─')
            .set_style(TableComponent::MiddleHeaderIntersections, ' ');
        rows.into_iter().for_each(|row| {
            table.add_row(row);
        });
        self.line(&table.to_string());
    }

    /// Calls: what the client got, and whom the server saw.
    pub fn calls(&self, answers: &[Answer]) {
        self.table(
            &["caller", "through", "called", "address", "the client got", "the server saw"],
            answers.iter().map(|answer| {
                let seen = answer.result["body"]["peer"].as_str().unwrap_or("nothing");
                let got = answer.seen_by_client();
                let [from, door, to] = [answer.call.from, door(answer.door), answer.call.to].map(Cell::new);
                vec![from, door, to, Cell::new(&answer.asked), Cell::new(got), Cell::new(seen)]
            }),
        );
    }

    /// The TCP connections of a capture, by port.
    pub fn wire(&self, wire: &Wire) {
        let (frames, bytes) = (wire.frames, wire.bytes);
        self.line(&match &wire.file {
            Some(file) => {
                format!(
                    "  {frames} frames, {bytes} bytes between the nodes; the capture is {}",
                    file.display()
                )
            }
            None => format!("  {bytes} bytes between the agents, kept by a proxy in between"),
        });
        let right = |count: usize| Cell::new(count).set_alignment(CellAlignment::Right);
        let asked =
            wire.streams.iter().filter(|(way, stream)| way.is_to_server() && !stream.payload.is_empty());
        self.table(
            &["client", "server", "sent", "answered", "begins with"],
            asked.map(|(way, stream)| {
                let answered = wire.streams.get(&way.reversed()).map_or(0, |answer| answer.payload.len());
                let begins = if stream.is_tls() {
                    "a TLS record".to_owned()
                } else {
                    let begin = &stream.payload[..stream.payload.len().min(24)];
                    String::from_utf8_lossy(begin).escape_debug().to_string()
                };
                let sent = right(stream.payload.len());
                vec![Cell::new(way.from), Cell::new(way.to), sent, right(answered), Cell::new(begins)]
            }),
        );
    }

    /// Flows as an agent told of them.
    pub fn flows(&self, flows: &[Value]) {
        let text = |value: &Value| Cell::new(value.as_str().unwrap_or("-"));
        self.table(
            &["event", "path", "source", "destination", "verdict", "policy"],
            flows.iter().map(|flow| {
                let connection = &flow["connection"];
                let [source, destination] = ["source", "destination"].map(|side| {
                    let identity = connection[side]["identity"].as_str().filter(|id| !id.is_empty());
                    Cell::new(identity.or(connection[side]["address"].as_str()).unwrap_or("-"))
                });
                let verdict = text(&flow["verdict"]);
                vec![
                    text(&flow["event"]),
                    text(&connection["path"]),
                    source,
                    destination,
                    verdict,
                    text(&connection["policy"]),
                ]
            }),
        );
    }

    /// What each path costs.
    pub fn costs(&self, costs: &[Cost]) {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        self.table(
            &["path", "measured", "bare", "mesh", "ratio"],
            costs.iter().flat_map(|cost| {
                let (bare, mesh) = (cost.bare, cost.mesh);
                [
                    ("latency, median µs", bare.latency_p50_us, mesh.latency_p50_us),
                    ("requests/s, 16 connections", bare.requests_per_second, mesh.requests_per_second),
                    ("one stream, Gbit/s", bare.gbit_per_second, mesh.gbit_per_second),
                ]
                .map(|(what, bare, mesh)| {
                    let digits = if bare > 1000.0 { 0 } else { 1 };
                    vec![
                        Cell::new(cost.path),
                        Cell::new(what),
                        right(format!("{bare:.digits$}")),
                        right(format!("{mesh:.digits$}")),
                        right(format!("{:.2}", mesh / bare)),
                    ]
                })
            }),
        );
    }

    /// What the machine lacks.
    pub fn missing(&self, missing: &[Missing]) {
        self.table(&["missing", "mend"], missing.iter().map(|m| [&m.what, &m.mend].map(Cell::new).into()));
    }

    /// What cannot be shown here.
    pub fn not_shown(&self, not_shown: &[NotShown]) {
        for it in not_shown {
            self.line(&format!("  not shown here  {}\n                  needs {}", it.claim, it.needs));
        }
    }

    /// The claims, one line each.
    pub fn claims(&self, claims: &Claims) {
        self.chapter("What was claimed", "and whether it was seen");
        for claim in claims.iter() {
            let word = if claim.proven { "proven    " } else { "NOT PROVEN" };
            self.line(&format!("  {word}  {}\n              {}", claim.claim, claim.evidence));
        }
    }
}

/// What a call goes through, in a word.
fn door(door: Option<Door>) -> &'static str {
    match door {
        None => "-",
        Some(Door::Connect) => "CONNECT",
        Some(Door::Socks) => "SOCKS5",
    }
}
