//! One run of the benchmarks: what was asked for, the samples so far, and what is told of them.

use super::catalogue::{FIGURES, Figure, Spread};
use crate::interrupt;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Which of the two things that a figure compares a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
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
    /// How long one run of new connections lasts.
    pub connections: Duration,
    /// How long the run lasts that looks for a cliff: long enough to use up a pod's ephemeral ports twice over.
    pub endurance: Duration,
}

impl Extent {
    /// What a figure that counts is measured with.
    pub const FULL: Self = Self {
        runs: 5,
        run: Duration::from_secs(4),
        connections: Duration::from_secs(8),
        endurance: Duration::from_secs(60),
    };
    /// Enough to see whether everything works.
    pub const QUICK: Self = Self {
        runs: 2,
        run: Duration::from_secs(1),
        connections: Duration::from_secs(3),
        endurance: Duration::from_secs(20),
    };
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
    series: BTreeMap<&'static str, BTreeMap<Side, Vec<f64>>>,
    failed: BTreeMap<&'static str, String>,
    warning: Option<String>,
}

/// What is written to standard output, one JSON object a line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told<'a> {
    /// What is being done now.
    Progress(&'a str),
    /// A finished figure.
    Row(Box<Row>),
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
    /// Why it could not be measured to the end, if so; its values are then of the runs before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The values of each second of a long run.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub each_second: BTreeMap<Side, Vec<f64>>,
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
            series: BTreeMap::new(),
            failed: BTreeMap::new(),
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

    /// Keeps what a long run came to, second by second.
    pub fn record_each_second(&mut self, name: &'static str, side: Side, seconds: Vec<f64>) {
        self.series.entry(name).or_default().insert(side, seconds);
    }

    /// Tells what is being done.
    ///
    /// # Errors
    /// When somebody has told us to stop: then it is not begun.
    pub fn progress(&self, text: &str) -> Result<()> {
        interrupt::check()?;
        tell(&Told::Progress(text));
        Ok(())
    }

    /// Makes the figures of `names`, where one of them was asked for, and tells their rows. A failure is told with them,
    /// and stops nothing else; whether it was one, comes back.
    ///
    /// # Errors
    /// When somebody has told us to stop.
    pub fn attempt(
        &mut self,
        names: &[&'static str],
        make: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<bool> {
        if !self.wants_any(names) {
            return Ok(true);
        }
        let made = make(self);
        interrupt::check()?;
        if let Err(error) = &made {
            self.failed.extend(names.iter().map(|name| (*name, format!("{error:#}"))));
        }
        self.finish(names);
        Ok(made.is_ok())
    }

    /// Fails when a figure could not be measured.
    pub fn conclude(&self) -> Result<()> {
        let failed: Vec<_> =
            self.wanted.iter().map(|f| f.name).filter(|name| self.failed.contains_key(name)).collect();
        ensure!(failed.is_empty(), "could not be measured: {}", failed.join(", "));
        Ok(())
    }

    /// Tells the rows of those of `names` that were asked for. Their samples are complete.
    fn finish(&self, names: &[&'static str]) {
        for figure in self.wanted.iter().filter(|figure| names.contains(&figure.name)) {
            tell(&Told::Row(Box::new(self.row(figure))));
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
        let failed = self.failed.get(figure.name).cloned();
        let judged = mesh.and_then(|mesh| figure.aim.is_met(mesh.median, ratio));
        Row {
            name: figure.name,
            unit: figure.unit,
            bare,
            mesh,
            ratio,
            runs: values(Side::Mesh).len().max(values(Side::Bare).len()),
            aim: figure.aim.describe(figure.unit),
            met: if broken.is_some() || failed.is_some() { Some(false) } else { judged },
            notes,
            failed,
            each_second: self.series.get(figure.name).cloned().unwrap_or_default(),
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

    #[test]
    fn a_failure_is_told_and_stops_nothing_else() {
        let mut session = Session::new(&["memory".into()], Extent::QUICK).unwrap();
        let broken = session.attempt(&["memory.idle"], |session| {
            session.record("memory.idle", Side::Mesh, 20.0);
            anyhow::bail!("the agent is gone")
        });
        assert!(!broken.unwrap(), "those who share something with it should know");
        assert!(session.attempt(&["memory.workloads_10k"], |_| Ok(())).unwrap());
        let unasked = session.attempt(&["same_node.rps_64"], |_| anyhow::bail!("nobody asked for it"));
        assert!(unasked.unwrap());
        let row = session.row(super::super::catalogue::find("memory.idle").unwrap());
        assert_eq!((row.failed.as_deref(), row.met, row.runs), (Some("the agent is gone"), Some(false), 1));
        let error = session.conclude().unwrap_err().to_string();
        assert_eq!(error, "could not be measured: memory.idle");
    }
}
