//! What `weft-bench` says, and the report that is kept of it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One line of `weft-bench`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// What is being done now.
    Progress(String),
    /// A finished figure.
    Row(Box<Row>),
}

/// A finished figure; the report is a list of these.
#[derive(Clone, Deserialize, Serialize)]
pub struct Row {
    /// `<group>.<what>`.
    pub name: String,
    /// The unit of the values.
    pub unit: String,
    /// What the mesh is compared with, where there is such a thing.
    pub bare: Option<Spread>,
    /// The mesh.
    pub mesh: Option<Spread>,
    /// The mesh's median by the other's.
    pub ratio: Option<f64>,
    /// How often each side ran.
    pub runs: usize,
    /// The aim, in words; empty where there is none.
    pub aim: String,
    /// Whether it is met.
    pub met: Option<bool>,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// Why it could not be measured to the end, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The values of each second of a long run, by side.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each_second: BTreeMap<String, Vec<f64>>,
}

/// Median and range of the runs of one side.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// Writes `report.json` into `directory`, at once or not at all, and tells where it is.
pub fn write(directory: &Path, rows: &[Row]) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join("report.json");
    let draft = directory.join("report.json.new");
    fs::write(&draft, serde_json::to_vec_pretty(rows)?)
        .with_context(|| format!("cannot write {}", draft.display()))?;
    fs::rename(&draft, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
