//! One run of the benchmarks: what was asked for, the samples so far, and what is told of them.

use super::catalogue::{FIGURES, Figure, Spread};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Which of the two things that a figure compares a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What the mesh is compared with.
    Bare,
    /// The mesh.
    Mesh,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// How often each side runs.
    pub runs: usize,
    /// How long one run of throughput, requests or latency lasts.
    pub run: Duration,
    /// How long one run of new connections lasts: long enough to use up a pod's ephemeral ports twice over.
    pub connections: Duration,
}

impl Extent {
    /// What a figure that counts is measured with.
    pub const FULL: Self =
        Self { runs: 5, run: Duration::from_secs(5), connections: Duration::from_secs(60) };
    /// Enough to see whether everything works.
    pub const QUICK: Self =
        Self { runs: 2, run: Duration::from_secs(1), connections: Duration::from_secs(5) };
}

/// Samples of figures, collected until all their runs are done.
#[derive(Debug)]
pub struct Session {
    /// How much is measured.
    pub extent: Extent,
    wanted: Vec<&'static Figure>,
    samples: BTreeMap<(&'static str, Side), Vec<f64>>,
    beside: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    notes: BTreeMap<&'static str, Vec<String>>,
    broken: BTreeMap<&'static str, String>,
    warning: Option<String>,
}

/// What is written to standard output, one JSON object a line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told<'a> {
    /// What is being done now.
    Progress(&'a str),
    /// A finished figure.
    Row(Row),
}

/// A finished figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The unit of the values.
    pub unit: &'static str,
    /// What the mesh is compared with, where there is such a thing.
    pub bare: Option<Spread>,
    /// The mesh.
    pub mesh: Option<Spread>,
    /// The mesh's median by the other's.
    pub ratio: Option<f64>,
    /// How often each side ran.
    pub runs: usize,
    /// The aim, in words.
    pub aim: String,
    /// Whether it is met, where there is an aim and enough was measured to tell.
    pub met: Option<bool>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

impl Session {
    /// A session for the figures whose names begin with one of `prefixes`; for all where none is given.
    ///
    /// # Errors
    /// When a prefix begins no figure's name.
    pub fn new(prefixes: &[String], extent: Extent) -> Result<Self> {
        for prefix in prefixes {
            ensure!(
                FIGURES.iter().any(|figure| figure.name.starts_with(prefix.as_str())),
                "no figure is called {prefix}; there are:\n  {}",
                FIGURES.iter().map(|figure| figure.name).collect::<Vec<_>>().join("\n  ")
            );
        }
        let named = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let wanted = FIGURES.iter().filter(|figure| prefixes.is_empty() || named(figure.name)).collect();
        Ok(Self {
            extent,
            wanted,
            samples: BTreeMap::new(),
            beside: BTreeMap::new(),
            notes: BTreeMap::new(),
            broken: BTreeMap::new(),
            warning: None,
        })
    }

    /// Whether the figure called `name` was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.iter().any(|figure| figure.name == name)
    }

    /// Whether any of `names` was asked for.
    pub fn wants_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wants(name))
    }

    /// Keeps one run's value.
    pub fn record(&mut self, name: &'static str, side: Side, value: f64) {
        self.samples.entry((name, side)).or_default().push(value);
    }

    /// Keeps one run's value of something beside a figure, in the figure's unit; its median becomes a note.
    pub fn record_beside(&mut self, name: &'static str, what: &'static str, value: f64) {
        self.beside.entry((name, what)).or_default().push(value);
    }

    /// Tells the reader something about a figure.
    pub fn note(&mut self, name: &'static str, note: String) {
        let notes = self.notes.entry(name).or_default();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Puts a warning into every row that follows.
    pub fn warn(&mut self, warning: String) {
        self.warning = Some(warning);
    }

    /// Says that a figure's aim is not met, whatever its ratio, and why.
    pub fn spoil(&mut self, name: &'static str, why: String) {
        self.broken.entry(name).or_insert(why);
    }

    /// Tells what is being done.
    pub fn progress(&self, text: &str) {
        tell(&Told::Progress(text));
    }

    /// Tells the rows of those of `names` that were asked for. Their samples are complete.
    pub fn finish(&self, names: &[&'static str]) {
        for figure in self.wanted.iter().filter(|figure| names.contains(&figure.name)) {
            tell(&Told::Row(self.row(figure)));
        }
    }

    fn row(&self, figure: &Figure) -> Row {
        let values = |side| self.samples.get(&(figure.name, side)).map_or(&[][..], Vec::as_slice);
        let (bare, mesh) = (Spread::of(values(Side::Bare)), Spread::of(values(Side::Mesh)));
        let ratio = bare.zip(mesh).map(|(bare, mesh)| mesh.median / bare.median);
        let mut notes = self.notes.get(figure.name).cloned().unwrap_or_default();
        let beside = self.beside.iter().filter(|((name, _), _)| *name == figure.name);
        notes.extend(beside.filter_map(|((_, what), values)| {
            Some(format!("{what}: {:.1} {}", Spread::of(values)?.median, figure.unit))
        }));
        let broken = self.broken.get(figure.name);
        notes.extend(broken.cloned());
        notes.extend(self.warning.clone());
        let judged = mesh.and_then(|mesh| figure.aim.is_met(mesh.median, ratio));
        Row {
            name: figure.name,
            unit: figure.unit,
            bare,
            mesh,
            ratio,
            runs: values(Side::Mesh).len().max(values(Side::Bare).len()),
            aim: figure.aim.describe(figure.unit),
            met: if broken.is_some() { Some(false) } else { judged },
            notes,
        }
    }
}

/// Writes one line; a reader that went away ends the run with the next system call that needs it.
fn tell(told: &Told<'_>) {
    if let Ok(line) = serde_json::to_string(told) {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_choose_and_a_wrong_one_is_named() {
        let session = Session::new(&["same_node".into()], Extent::QUICK).unwrap();
        assert!(session.wants("same_node.rps_64") && !session.wants("cross_node.rps_64"));
        let error = Session::new(&["nothing".into()], Extent::QUICK).unwrap_err().to_string();
        assert!(error.starts_with("no figure is called nothing"), "{error}");
    }

    #[test]
    fn a_row_compares_medians_and_a_failure_spoils_it() {
        let mut session = Session::new(&[], Extent::QUICK).unwrap();
        for (bare, mesh) in [(100.0, 60.0), (90.0, 50.0), (110.0, 40.0)] {
            session.record("cross_node.connections", Side::Bare, bare);
            session.record("cross_node.connections", Side::Mesh, mesh);
        }
        let figure = super::super::catalogue::find("cross_node.connections").unwrap();
        let row = session.row(figure);
        assert_eq!((row.ratio, row.met, row.runs), (Some(0.5), Some(true), 3));
        session.spoil("cross_node.connections", "3 failed".into());
        let row = session.row(figure);
        assert_eq!((row.met, row.notes), (Some(false), vec!["3 failed".to_owned()]));
    }
}
