//! Findings of the source and of the index, put together, and told once.

use std::collections::BTreeMap;
use weft_api::ObjectKey;
use weft_index::{Finding, Severity};

/// All findings, the worst first; those of the index learn where their objects stand.
pub(crate) fn merge(
    source: &[Finding],
    index: Vec<Finding>,
    places: &BTreeMap<ObjectKey, String>,
) -> Vec<Finding> {
    let placed = index.into_iter().map(|mut f| {
        f.file = f.file.or_else(|| f.object.as_ref().and_then(|o| places.get(o)).cloned());
        f
    });
    let mut all: Vec<Finding> = source.iter().cloned().chain(placed).collect();
    all.sort_by(order);
    all
}

/// Logs what is new in `new`, and what of `old` is mended.
pub(crate) fn log(old: &[Finding], new: &[Finding]) {
    let known = |list: &[Finding], f: &Finding| list.binary_search_by(|o| order(o, f)).is_ok();
    for finding in new.iter().filter(|f| !known(old, f)) {
        match finding.severity {
            Severity::Error => tracing::error!(target: "findings", "{finding}"),
            Severity::Warning => tracing::warn!(target: "findings", "{finding}"),
            Severity::Info => tracing::info!(target: "findings", "{finding}"),
        }
    }
    for finding in old.iter().filter(|f| !known(new, f)) {
        tracing::info!(target: "findings", "mended or gone: {finding}");
    }
}

/// The order of [`merge`].
fn order(a: &Finding, b: &Finding) -> std::cmp::Ordering {
    b.severity.cmp(&a.severity).then_with(|| a.cmp(b))
}
