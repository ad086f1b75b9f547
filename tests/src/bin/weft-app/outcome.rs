//! How results and errors are told.

use serde_json::{Value, json};
use std::io;

/// An error as a result: the name of the system's error (`ECONNREFUSED`) where there is one, `EOF` for an end that came
/// too soon, and the whole story.
pub fn failed(error: &anyhow::Error) -> Value {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    json!({ "ok": false, "error": io.map_or_else(|| "OTHER".into(), name), "message": format!("{error:#}") })
}

/// The name of an I/O error.
pub fn name(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        (Some(errno), _) => format!("{:?}", nix::errno::Errno::from_raw(errno)),
        (None, io::ErrorKind::UnexpectedEof) => "EOF".into(),
        (None, io::ErrorKind::TimedOut) => "ETIMEDOUT".into(),
        (None, kind) => kind.to_string(),
    }
}
