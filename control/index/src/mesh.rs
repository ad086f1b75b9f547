//! Who takes part in the mesh.

use crate::{
    finding::{Note, Severity},
    selector::Labels,
};

/// The label of a namespace that lets its pods in, and of a pod that decides for itself.
pub(crate) const MESH: &str = "weft.dev/mesh";
/// Istio's label for the same, so that whoever comes from there need not relabel.
pub(crate) const ISTIO_MODE: &str = "istio.io/dataplane-mode";

/// What the labels of an object say; `None` where they say nothing.
pub(crate) fn wish(labels: &Labels, notes: &mut Vec<Note>) -> Option<bool> {
    match labels.get(MESH).map(String::as_str) {
        Some("enabled") => return Some(true),
        Some("disabled") => return Some(false),
        Some(other) => notes.push(Note::new(
            Severity::Warning,
            format!("metadata.labels[{MESH}]"),
            format!("`{other}` means nothing and is ignored"),
            "write `enabled` or `disabled`",
        )),
        None => {}
    }
    match labels.get(ISTIO_MODE).map(String::as_str) {
        Some("ambient") => Some(true),
        Some("none") => Some(false),
        _ => None,
    }
}
