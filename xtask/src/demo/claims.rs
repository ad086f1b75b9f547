//! Claims, and whether they were seen to hold.

use anyhow::Result;
use serde::Serialize;

/// One claim.
#[derive(Serialize)]
pub struct Claim {
    /// What is claimed.
    pub claim: String,
    /// Whether it was seen.
    pub proven: bool,
    /// What was seen.
    pub evidence: String,
}

/// Claims, in the order in which they were tried.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub struct Claims {
    list: Vec<Claim>,
}

impl Claims {
    /// Tries a claim: what `look` returns is the evidence for it, an error the evidence against.
    pub fn try_one(&mut self, claim: &str, look: impl FnOnce() -> Result<String>) {
        let (proven, evidence) = match look() {
            Ok(evidence) => (true, evidence),
            Err(error) => (false, format!("{error:#}")),
        };
        self.list.push(Claim { claim: claim.to_owned(), proven, evidence });
    }

    /// Whether there is no doubt left.
    pub fn all_proven(&self) -> bool {
        !self.list.is_empty() && self.list.iter().all(|claim| claim.proven)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_doubt_is_enough_and_no_claim_is_no_proof() {
        let mut claims = Claims::default();
        assert!(!claims.all_proven());
        claims.try_one("water is wet", || Ok("it was".into()));
        assert!(claims.all_proven());
        claims.try_one("pigs fly", || anyhow::bail!("none did"));
        assert!(!claims.all_proven());
        let data = serde_json::to_value(&claims).unwrap();
        assert_eq!(
            data[1],
            serde_json::json!({"claim": "pigs fly", "proven": false, "evidence": "none did"})
        );
    }
}
