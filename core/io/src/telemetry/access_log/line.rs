//! One line of the access log: the fields of Istio's ztunnel, and what this mesh knows besides.

use super::super::{Direction, Facts, Live};
use std::{
    fmt::{self, Display},
    time::Duration,
};
use weft_model::Reason;

/// What one line tells.
#[derive(Debug)]
pub struct Line {
    at: jiff::Timestamp,
    facts: Facts,
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

impl Line {
    /// The line of a connection that ends now for `reason`.
    pub fn of(connection: &Live, reason: Reason) -> Self {
        Self::at(jiff::Timestamp::now(), connection.age(), connection, reason)
    }

    pub(super) fn at(at: jiff::Timestamp, duration: Duration, connection: &Live, reason: Reason) -> Self {
        let facts = connection.facts();
        let (to_server, to_client) = (connection.counters.to_server(), connection.counters.to_client());
        let (sent, received) = match facts.direction {
            Direction::Outbound => (to_server, to_client),
            Direction::Inbound => (to_client, to_server),
        };
        Self { at, facts, sent, received, duration, reason }
    }

    fn level_and_message(&self) -> (&'static str, &'static str) {
        match self.reason.response_flags() {
            "-" => ("info", "connection complete"),
            _ => ("error", "connection failed"),
        }
    }

    /// Calls `put` for each field that has a value, in the order in which they are written.
    fn fields(&self, mut put: impl FnMut(&'static str, Value<'_>)) {
        use Value::{Bare, Number, Quoted};
        let f = &self.facts;
        put("src.addr", Bare(&f.source_addr));
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
        put("bytes_sent", Number(self.sent));
        put("bytes_recv", Number(self.received));
        put("duration", Quoted(&format_args!("{}ms", self.duration.as_millis())));
        if self.reason != Reason::Ok {
            put("error", Quoted(&self.reason));
        }
    }

    /// The line as a JSON object.
    pub fn to_json(&self) -> String {
        let (level, message) = self.level_and_message();
        let mut object = serde_json::Map::new();
        object.insert("time".to_owned(), format!("{:.6}", self.at).into());
        object.insert("level".to_owned(), level.into());
        object.insert("scope".to_owned(), "access".into());
        object.insert("message".to_owned(), message.into());
        self.fields(|key, value| {
            let value = match value {
                Value::Bare(v) | Value::Quoted(v) => v.to_string().into(),
                Value::Number(n) => n.into(),
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
        let (level, message) = self.level_and_message();
        write!(f, "{:.6} {level} access {message}", self.at)?;
        let mut result = Ok(());
        self.fields(|key, value| {
            let one = match value {
                Value::Bare(v) => write!(f, " {key}={v}"),
                // Names come from the control plane: quotes and line breaks in them must not forge a field or a line.
                Value::Quoted(v) => write!(f, " {key}={:?}", v.to_string()),
                Value::Number(n) => write!(f, " {key}={n}"),
            };
            result = result.and(one);
        });
        result
    }
}
