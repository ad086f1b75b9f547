//! Who takes part in the mesh, and how.

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

/// The label of a namespace, or of a pod that decides for itself, that says which connections are encrypted.
pub(crate) const ENCRYPT: &str = "weft.dev/encrypt";

/// Whether the labels of an object ask for encryption on the node, too; `None` where they say nothing.
pub(crate) fn always_encrypt(labels: &Labels, notes: &mut Vec<Note>) -> Option<bool> {
    match labels.get(ENCRYPT)?.as_str() {
        "always" => Some(true),
        "between-nodes" => Some(false),
        other => {
            notes.push(Note::new(
                Severity::Warning,
                format!("metadata.labels[{ENCRYPT}]"),
                format!("`{other}` means nothing; connections are encrypted always, to be safe"),
                "write `always` or `between-nodes`",
            ));
            Some(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_misspelt_encrypts() {
        let ask = |value: &str| {
            let mut notes = Vec::new();
            let labels = Labels::from([(ENCRYPT.to_owned(), value.to_owned())]);
            (always_encrypt(&labels, &mut notes), notes.len())
        };
        assert_eq!(ask("always"), (Some(true), 0));
        assert_eq!(ask("between-nodes"), (Some(false), 0));
        assert_eq!(ask("allways"), (Some(true), 1));
        assert_eq!(always_encrypt(&Labels::new(), &mut Vec::new()), None);
    }
}
