//! Label selectors.

use std::collections::BTreeMap;

/// Labels of an object, or those that a selector demands.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether `labels` hold everything that `selector` demands.
pub(crate) fn matches(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
