//! The condition of a policy, beside those that others wrote.

use super::plan::Verdict;
use serde_json::{Value, json};

/// The condition's type.
const TYPE: &str = "WeftAccepted";

/// Whether the status has a condition of ours that says something is wrong.
pub(super) fn is_bad(status: Option<&Value>) -> bool {
    let own = status.and_then(own);
    own.is_some_and(|c| c.get("reason").and_then(Value::as_str) != Some("Accepted"))
}

fn own(status: &Value) -> Option<&Value> {
    let conditions = status.get("conditions")?.as_array()?;
    conditions.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(TYPE))
}

/// All conditions once ours says `verdict`; `None` where it does already.
pub(super) fn merge(
    status: &Value,
    verdict: &Verdict,
    generation: Option<i64>,
    now: &str,
) -> Option<Vec<Value>> {
    let (value, reason, message) = match verdict {
        Verdict::Accepted => ("True", "Accepted", "in force".to_owned()),
        Verdict::Questionable(text) => ("True", "Questionable", text.clone()),
        Verdict::Rejected(text) => ("False", "Rejected", text.clone()),
    };
    let old = own(status);
    let text = |field: &str| old.and_then(|c| c.get(field)).and_then(Value::as_str);
    let told = old.and_then(|c| c.get("observedGeneration")).and_then(Value::as_i64);
    if text("status") == Some(value)
        && text("reason") == Some(reason)
        && text("message") == Some(&message)
        && told == generation
    {
        return None;
    }
    let since = text("lastTransitionTime").filter(|_| text("status") == Some(value)).unwrap_or(now);
    let mut condition = json!({
        "type": TYPE, "status": value, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    if let Some(generation) = generation {
        condition["observedGeneration"] = generation.into();
    }
    let others = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let is_others = |c: &&Value| c.get("type").and_then(Value::as_str) != Some(TYPE);
    Some(others.filter(is_others).cloned().chain([condition]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_put_beside_others_and_keeps_its_time_while_it_says_the_same() {
        let others = json!({"conditions": [{"type": "Reconciled", "status": "True"}]});
        let bad = Verdict::Rejected("no".into());
        let first = merge(&others, &bad, Some(3), "t1").unwrap();
        assert_eq!(first.len(), 2);
        assert_eq!(first[0]["type"], "Reconciled");
        assert_eq!((&first[1]["status"], &first[1]["observedGeneration"]), (&json!("False"), &json!(3)));
        let status = json!({ "conditions": first });
        assert!(is_bad(Some(&status)) && !is_bad(Some(&others)) && !is_bad(None));
        assert_eq!(merge(&status, &bad, Some(3), "t2"), None, "nothing to write");
        let other_words = merge(&status, &Verdict::Rejected("never".into()), Some(4), "t2").unwrap();
        assert_eq!(other_words[1]["lastTransitionTime"], "t1");
        let well = merge(&status, &Verdict::Accepted, Some(4), "t3").unwrap();
        assert_eq!((&well[1]["status"], &well[1]["lastTransitionTime"]), (&json!("True"), &json!("t3")));
        assert!(!is_bad(Some(&json!({ "conditions": well }))));
    }
}
