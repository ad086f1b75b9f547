//! Label selectors and blocks of addresses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::{collections::BTreeMap, net::IpAddr};

/// Whether the selector matches the labels; an empty one matches all.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressed = selector.match_expressions.iter().flatten().all(|e| {
        let value = labels.get(&e.key);
        let listed = value.is_some_and(|v| e.values.iter().flatten().any(|known| known == v));
        match e.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            // The API server knows no other.
            _ => false,
        }
    });
    equal && expressed
}

/// Whether the address is in the block; in none that is not one.
pub fn within(cidr: &str, address: IpAddr) -> bool {
    let Some((network, bits)) = cidr.split_once('/') else { return false };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) if bits <= 32 => {
            let shift = 32 - bits;
            n.to_bits().checked_shr(shift) == a.to_bits().checked_shr(shift)
        }
        (IpAddr::V6(n), IpAddr::V6(a)) if bits <= 128 => {
            let shift = 128 - bits;
            n.to_bits().checked_shr(shift) == a.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_end_where_their_bits_do() {
        let within = |cidr, address: &str| within(cidr, address.parse().unwrap());
        assert!(within("10.0.0.0/8", "10.255.0.1") && !within("10.0.0.0/8", "11.0.0.1"));
        assert!(within("0.0.0.0/0", "1.2.3.4") && within("1.2.3.4/32", "1.2.3.4"));
        assert!(!within("0.0.0.0/0", "::1") && within("::/0", "::1") && within("fd00::/64", "fd00::7"));
        assert!(
            !within("10.0.0.0/33", "10.0.0.1")
                && !within("x/8", "10.0.0.1")
                && !within("10.0.0.0", "10.0.0.0")
        );
    }

    #[test]
    fn every_part_of_a_selector_must_match() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let matches = |selector| matches(&serde_json::from_value(selector).unwrap(), &labels);
        let expression = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        assert!(matches(json!({})) && matches(json!({"matchLabels": {"app": "web"}})));
        assert!(!matches(json!({"matchLabels": {"app": "db"}})));
        assert!(
            matches(expression("In", "app", &["db", "web"])) && !matches(expression("In", "tier", &["web"]))
        );
        assert!(
            matches(expression("NotIn", "tier", &["x"])) && !matches(expression("NotIn", "app", &["web"]))
        );
        assert!(
            matches(expression("Exists", "app", &[])) && matches(expression("DoesNotExist", "tier", &[]))
        );
        assert!(!matches(expression("Like", "app", &["web"])));
    }
}
