//! The table of figures, and the line of progress above it.

use super::report::{Row, Spread};
use comfy_table::{CellAlignment, Table, presets};
use std::io::{IsTerminal, Write};

/// All rows as a table, and their notes below it.
pub fn render(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(["figure", "unit", "bare", "mesh", "ratio", "runs", "aim", "met"]);
    for column in 2..=5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        table.add_row([
            row.name.clone(),
            row.unit.clone(),
            row.bare.map_or("–".into(), spread),
            row.mesh.map_or("–".into(), spread),
            row.ratio.map_or("–".into(), ratio),
            row.runs.to_string(),
            row.aim.clone(),
            met(row).into(),
        ]);
    }
    let failures =
        rows.iter().filter_map(|row| Some((format!("FAILED: {}", row.failed.as_ref()?), &row.name)));
    let notes = rows.iter().flat_map(|row| row.notes.iter().map(move |note| (note.clone(), &row.name)));
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (note, name) in failures.chain(notes) {
        match told.iter_mut().find(|(known, _)| *known == note) {
            Some((_, names)) => names.push(name),
            None => told.push((note, vec![name])),
        }
    }
    let notes = told.iter().map(|(note, names)| {
        let about = if names.len() == rows.len() { "all".into() } else { names.join(", ") };
        format!("\n  {about}: {note}")
    });
    format!("{table}{}", notes.collect::<String>())
}

/// One row in one line, for the log of what is done.
pub fn brief(row: &Row) -> String {
    let side = |side: Option<Spread>| side.map_or("–".into(), |s| digits(s.median));
    format!(
        "{:<34} bare {:>9}  mesh {:>9} {}  ratio {}  {}",
        row.name,
        side(row.bare),
        side(row.mesh),
        row.unit,
        row.ratio.map_or("–".into(), ratio),
        met(row),
    )
}

fn met(row: &Row) -> &'static str {
    match row.met {
        _ if row.failed.is_some() => "FAILED",
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    }
}

fn spread(s: Spread) -> String {
    format!("{} ({} … {})", digits(s.median), digits(s.min), digits(s.max))
}

/// A ratio; a very small one keeps two digits that say something.
fn ratio(ratio: f64) -> String {
    if ratio < 0.01 { format!("{ratio:.1e}") } else { format!("{ratio:.2}") }
}

/// A value with three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// What is being done, on one line that is written over on a terminal.
pub struct Progress {
    terminal: bool,
}

impl Progress {
    /// Nothing shown yet.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    /// Shows what is being done.
    pub fn show(&mut self, text: &str) {
        if self.terminal {
            self.write(&format!("\r\x1b[2K… {text}"));
        } else {
            self.write(&format!("… {text}\n"));
        }
    }

    /// Puts a line that stays.
    pub fn done(&mut self, text: &str) {
        self.clear();
        self.write(&format!("{text}\n"));
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.terminal {
            self.write("\r\x1b[2K");
        }
    }

    /// Progress is for whoever watches: nobody is told when it cannot be written.
    fn write(&self, text: &str) {
        let mut out = std::io::stderr();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn values_keep_three_digits() {
        let shown = [32_400.4, 47.23, 3.456, 0.7321, 0.0].map(digits);
        assert_eq!(shown, ["32400", "47.2", "3.46", "0.732", "0"]);
        assert_eq!([0.456, 0.00137].map(ratio), ["0.46", "1.4e-3"]);
    }

    fn row(name: &str) -> Row {
        Row {
            name: name.into(),
            unit: "s".into(),
            bare: None,
            mesh: Some(Spread { median: 1.0, min: 0.5, max: 2.0 }),
            ratio: None,
            runs: 5,
            aim: String::new(),
            met: None,
            notes: vec!["busy".into()],
            failed: None,
            each_second: BTreeMap::new(),
        }
    }

    #[test]
    fn a_failed_figure_says_why() {
        let failed = Row { failed: Some("the agent is gone".into()), mesh: None, ..row("a") };
        let text = render(&[failed, row("b")]);
        assert!(text.contains("a: FAILED: the agent is gone"), "{text}");
        assert!(text.lines().any(|line| line.contains("FAILED") && line.contains('│')), "{text}");
    }

    #[test]
    fn a_note_shared_by_all_is_told_once() {
        let text = render(&[row("a"), row("b")]);
        assert_eq!(text.matches("all: busy").count(), 1, "{text}");
        assert!(text.contains("1.00 (0.500 … 2.00)"), "{text}");
    }
}
