//! `explain` for people.

use super::{Show, full_name, or_dash, short_identity};
use crate::{admin::proto::Explanation, cli::output::columns};
use std::fmt::Write;

impl Show for Explanation {
    fn show(&self) -> String {
        let peer = |p: &Option<crate::admin::proto::Peer>| match p {
            Some(p) => full_name(&p.namespace, &p.workload),
            None => "-".to_owned(),
        };
        let verdict = match (self.verdict.as_str(), self.reason.as_str()) {
            (verdict, "") => verdict.to_owned(),
            (verdict, reason) => format!("{verdict} ({reason})"),
        };
        let to = match self.to == self.to_address {
            true => self.to.clone(),
            false => format!("{} ({})", self.to, self.to_address),
        };
        let mut rows = vec![
            ("From", peer(&self.from)),
            ("To", to),
            ("Reaches", peer(&self.destination)),
            ("Path", self.path.clone()),
            ("Verdict", verdict),
            ("Policy", or_dash(&*self.policy)),
        ];
        if !self.dry_run_policy.is_empty() {
            rows.push(("Dry run", self.dry_run_policy.clone()));
        }
        if !self.expected_identities.is_empty() {
            let names: Vec<_> = self.expected_identities.iter().map(|i| short_identity(i)).collect();
            rows.push(("Expects", names.join(", ")));
        }
        rows.push(("Certificate", self.certificate.clone()));
        let mut text = columns(None, rows.into_iter().map(|(k, v)| vec![k.to_owned(), v]));
        text.push('\n');
        for (n, step) in self.steps.iter().enumerate() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{}. {step}", n + 1);
        }
        text
    }
}
