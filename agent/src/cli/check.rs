//! `check`: whether this machine has what the agent needs. Asks no agent.

use super::{
    client::CliError,
    output::{Output, Row},
};
use crate::kernel::probe::{self, probe};
use serde::Serialize;
use std::io::Write;

/// One thing that the agent needs, as it is printed.
#[derive(Serialize)]
struct Found {
    name: &'static str,
    ok: bool,
    found: String,
    mend: &'static str,
}

impl From<probe::Row> for Found {
    fn from(row: probe::Row) -> Self {
        Self {
            name: row.name,
            ok: row.is_ok(),
            mend: row.mend.or(row.advice).unwrap_or_default(),
            found: row.found,
        }
    }
}

impl Row for Found {
    const HEAD: &'static [&'static str] = &["NEEDED", "OK", "FOUND", "TO MEND"];
    const EMPTY: &'static str = "nothing to check";

    fn cells(&self) -> Vec<String> {
        let ok = if self.ok { "yes" } else { "no" };
        vec![self.name.to_owned(), ok.to_owned(), self.found.clone(), self.mend.to_owned()]
    }
}

/// Prints every row; fails when one is not as it should be.
pub fn check(output: Output, out: &mut impl Write) -> Result<(), CliError> {
    // As the chart has it.
    let contained = std::env::var_os("WEFT_PODS").is_some_and(|pods| pods == "kube");
    let rows: Vec<Found> = probe(contained).into_iter().map(Found::from).collect();
    output.list(&rows, out)?;
    match rows.iter().filter(|r| !r.ok).count() {
        0 => Ok(()),
        missing => Err(CliError::Missing(missing)),
    }
}
