//! What people see of each message.

mod bpf;
mod connections;
mod explain;
mod lists;
mod status;
mod units;

use crate::admin::proto::Log;

/// Something that is shown as a whole rather than as a row of a list.
pub trait Show {
    /// The text, with a line break at its end.
    fn show(&self) -> String;
}

impl Show for Log {
    fn show(&self) -> String {
        format!("{}\n", self.directives)
    }
}

/// `namespace/name`, or a dash for nothing.
fn full_name(namespace: &str, name: &str) -> String {
    match (namespace, name) {
        ("", "") => "-".to_owned(),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// A dash for an empty cell, so that columns stay readable.
fn or_dash(s: impl Into<String>) -> String {
    let s = s.into();
    if s.is_empty() { "-".to_owned() } else { s }
}

/// An identity without its scheme.
fn short_identity(identity: &str) -> String {
    or_dash(identity.strip_prefix("spiffe://").unwrap_or(identity))
}
