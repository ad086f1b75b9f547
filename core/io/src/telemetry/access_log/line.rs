//! One line of the access log: the fields of Istio's ztunnel, and what this mesh knows besides.

use super::super::{Brief, Direction, Facts, Live};
use std::{
    fmt::{self, Display, Write},
    time::Duration,
};
use weft_model::Reason;

/// What one line tells.
#[derive(Debug)]
pub struct Line {
    facts: Facts,
    end: End,
}

/// What a line tells of how a connection went. The rest of it, the facts, many connections may have in common.
#[derive(Debug)]
struct End {
    at: jiff::Timestamp,
    /// Bytes as the workload on this proxy's side sees them: what it sent, what it received.
    sent: u64,
    received: u64,
    duration: Duration,
    reason: Reason,
}

/// A field's value.
enum Value<'a> {
    /// Written as it is.
    Bare(&'a dyn Display),
    /// Quoted.
    Quoted(&'a dyn Display),
    Number(u64),
}

use Value::{Bare, Number, Quoted};

impl Line {
    /// The line of a connection that ends now for `reason`.
    pub fn of(connection: &Live, reason: Reason) -> Self {
        Self::at(jiff::Timestamp::now(), connection.age(), connection, reason)
    }

    pub(super) fn at(at: jiff::Timestamp, duration: Duration, connection: &Live, reason: Reason) -> Self {
        let facts = connection.facts();
        let (to_server, to_client) = (connection.counters.to_server(), connection.counters.to_client());
        let (sent, received) = seen_by(facts.direction, to_server, to_client);
        Self { facts, end: End { at, sent, received, duration, reason } }
    }

    /// The line of a connection that has these facts but for its client's address.
    pub fn of_brief(facts: &Facts, brief: &Brief) -> Self {
        let facts = Facts { source_addr: brief.client, ..facts.clone() };
        Self { end: End::of(facts.direction, brief), facts }
    }

    /// Calls `put` for each field that has a value, in the order in which they are written.
    fn fields(&self, mut put: impl FnMut(&'static str, Value<'_>)) {
        put("src.addr", Bare(&self.facts.source_addr));
        common(&self.facts, &mut put);
        self.end.fields(&mut put);
    }

    /// The line as a JSON object.
    pub fn to_json(&self) -> String {
        let (level, message) = self.end.level_and_message();
        let mut object = serde_json::Map::new();
        object.insert("time".to_owned(), format!("{:.6}", self.end.at).into());
        object.insert("level".to_owned(), level.into());
        object.insert("scope".to_owned(), "access".into());
        object.insert("message".to_owned(), message.into());
        self.fields(|key, value| {
            let value = match value {
                Bare(v) | Quoted(v) => v.to_string().into(),
                Number(n) => n.into(),
            };
            object.insert(key.to_owned(), value);
        });
        if let Some(trace) = self.facts.trace {
            object.insert("trace_id".to_owned(), format!("{trace:032x}").into());
        }
        serde_json::Value::Object(object).to_string()
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.write_head(f)?;
        let mut result = Ok(());
        self.fields(|key, value| {
            if result.is_ok() {
                result = write_field(f, key, &value);
            }
        });
        result
    }
}

impl End {
    fn of(direction: Direction, brief: &Brief) -> Self {
        let (sent, received) = seen_by(direction, brief.to_server, brief.to_client);
        // Beyond the years that a timestamp can tell there is no clock.
        let at = jiff::Timestamp::try_from(brief.ended).unwrap_or_default();
        Self { at, sent, received, duration: brief.duration, reason: brief.reason }
    }

    fn level_and_message(&self) -> (&'static str, &'static str) {
        match self.reason.response_flags() {
            "-" => ("info", "connection complete"),
            _ => ("error", "connection failed"),
        }
    }

    fn write_head(&self, out: &mut impl Write) -> fmt::Result {
        let (level, message) = self.level_and_message();
        write!(out, "{:.6} {level} access {message}", self.at)
    }

    fn fields(&self, put: &mut impl FnMut(&'static str, Value<'_>)) {
        put("bytes_sent", Number(self.sent));
        put("bytes_recv", Number(self.received));
        put("duration", Quoted(&format_args!("{}ms", self.duration.as_millis())));
        if self.reason != Reason::Ok {
            put("error", Quoted(&self.reason));
        }
    }
}

/// The part of a line, as text, that connections with these facts have in common.
pub fn common_text(facts: &Facts) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    common(facts, &mut |key, value| {
        let _ = write_field(&mut text, key, &value);
    });
    text
}

/// Appends the line of a connection whose facts were written by [`common_text`].
pub fn write_brief(out: &mut String, common: &str, direction: Direction, brief: &Brief) {
    let end = End::of(direction, brief);
    // Writing to a String cannot fail.
    let _ = end.write_head(out);
    let _ = write_field(out, "src.addr", &Bare(&brief.client));
    out.push_str(common);
    end.fields(&mut |key, value| {
        let _ = write_field(out, key, &value);
    });
}

/// What the workload on the side of `direction` sent, and what it received.
fn seen_by(direction: Direction, to_server: u64, to_client: u64) -> (u64, u64) {
    match direction {
        Direction::Outbound => (to_server, to_client),
        Direction::Inbound => (to_client, to_server),
    }
}

/// Calls `put` for each fact that has a value, but for the client's address.
fn common(f: &Facts, put: &mut impl FnMut(&'static str, Value<'_>)) {
    if let Some(w) = &f.source {
        put("src.workload", Quoted(&w.name));
        put("src.namespace", Quoted(&w.namespace));
    }
    if let Some(id) = &f.source_identity {
        put("src.identity", Quoted(id));
    }
    put("dst.addr", Bare(&f.destination_addr));
    if let Some(addr) = &f.hbone_addr {
        put("dst.hbone_addr", Bare(addr));
    }
    if let Some(s) = &f.service {
        put("dst.service", Quoted(&s.service.key.hostname));
    }
    if let Some(w) = &f.destination {
        put("dst.workload", Quoted(&w.name));
        put("dst.namespace", Quoted(&w.namespace));
    }
    if let Some(id) = &f.destination_identity {
        put("dst.identity", Quoted(id));
    }
    put("direction", Quoted(&f.direction.as_str()));
    put("path", Quoted(&f.path.as_str()));
    if let Some(policy) = &f.policy {
        put("policy", Quoted(policy));
    }
}

fn write_field(out: &mut impl Write, key: &str, value: &Value<'_>) -> fmt::Result {
    match value {
        Bare(v) => write!(out, " {key}={v}"),
        Quoted(v) => {
            write!(out, " {key}=\"")?;
            write!(Escaping(out), "{v}")?;
            out.write_char('"')
        }
        Number(n) => write!(out, " {key}={n}"),
    }
}

/// Writes what stands between quotes. Names come from the control plane: quotes and line breaks in them must not forge a
/// field or a line.
struct Escaping<'a, W>(&'a mut W);

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if s.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
            return self.0.write_str(s);
        }
        s.chars().try_for_each(|c| match c {
            '\'' => self.0.write_char(c),
            _ => c.escape_debug().try_for_each(|c| self.0.write_char(c)),
        })
    }
}
