//! Steps, one after the other, and what became of each.

use anyhow::Result;
use comfy_table::{Table, presets};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// What became of a step.
pub enum Outcome {
    /// It holds.
    Passed,
    /// What could be tried here holds; why the rest could not.
    Partly(String),
}

/// Steps that were taken.
#[derive(Default)]
pub struct Steps {
    only: Vec<String>,
    taken: Vec<(String, Duration, Result<Outcome>)>,
}

impl Steps {
    /// Steps of which only the named ones are taken; all when none is named.
    pub fn only(names: &[String]) -> Self {
        Self { only: names.to_vec(), taken: Vec::new() }
    }

    /// Takes a step. The following ones are taken also when it fails: one run shows all there is to mend.
    pub fn take(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) {
        if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
            return;
        }
        println!("\n=== {name}");
        let begun = Instant::now();
        let result = step();
        match &result {
            Err(error) => println!("=== {name} FAILED: {error:#}"),
            Ok(Outcome::Partly(why)) => println!("=== {name}: not all of it could be tried: {why}"),
            Ok(Outcome::Passed) => {}
        }
        self.taken.push((name.to_owned(), begun.elapsed(), result));
    }

    /// Prints a table of the steps; the exit code says whether all of them hold.
    pub fn finish(self) -> ExitCode {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["step", "seconds", "result"]);
        let mut failed = 0;
        for (name, took, result) in &self.taken {
            let result = match result {
                Ok(Outcome::Passed) => "ok".to_owned(),
                Ok(Outcome::Partly(why)) => format!("ok, but in part: {why}"),
                Err(error) => {
                    failed += 1;
                    format!("FAILED: {}", first_line(&format!("{error:#}")))
                }
            };
            table.add_row([name.clone(), format!("{:.1}", took.as_secs_f64()), result]);
        }
        println!("\n{table}");
        match (failed, self.taken.len()) {
            (_, 0) => println!("no step of that name"),
            (0, _) => return ExitCode::SUCCESS,
            _ => println!("{failed} of {} steps failed", self.taken.len()),
        }
        ExitCode::FAILURE
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
