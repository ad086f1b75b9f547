//! Pods of a node.

use super::field::FieldError;
use crate::discovery::proto::node as wire;
use weft_model::NodePod;

/// A uid is 36 characters; a name that is used in paths must be no path.
const LONGEST_UID: usize = 128;

pub(super) fn from_wire(pod: wire::NodePod) -> Result<NodePod, FieldError> {
    let wire::NodePod { uid, namespace, name, node, meshed } = pod;
    for (field, value) in [("uid", &uid), ("namespace", &namespace), ("name", &name), ("node", &node)] {
        if value.is_empty() {
            return Err(FieldError::missing(field));
        }
    }
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    if uid.len() > LONGEST_UID || !uid.bytes().all(is_plain) {
        return Err(FieldError::invalid("uid", &uid));
    }
    Ok(NodePod { uid: uid.into(), namespace: namespace.into(), name: name.into(), node: node.into(), meshed })
}

pub(super) fn to_wire(pod: &NodePod) -> wire::NodePod {
    wire::NodePod {
        uid: pod.uid.to_string(),
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        node: pod.node.to_string(),
        meshed: pod.meshed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> wire::NodePod {
        let text = |s: &str| s.to_owned();
        wire::NodePod {
            uid: text("5f1c7a10-0000-4000-8000-000000000010"),
            namespace: text("shop"),
            name: text("web-0"),
            node: text("n1"),
            meshed: true,
        }
    }

    #[test]
    fn what_is_decoded_is_encoded_again() {
        assert_eq!(to_wire(&from_wire(pod()).unwrap()), pod());
    }

    #[test]
    fn a_uid_that_is_no_name_of_a_directory_is_refused() {
        for uid in ["", "..", "a/b", "a b", &"a".repeat(LONGEST_UID + 1)] {
            let error = from_wire(wire::NodePod { uid: uid.to_owned(), ..pod() }).unwrap_err().to_string();
            assert!(error.contains("uid"), "{uid}: {error}");
        }
        assert!(
            from_wire(wire::NodePod { node: String::new(), ..pod() })
                .unwrap_err()
                .to_string()
                .contains("node")
        );
    }
}
