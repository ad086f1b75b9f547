//! `weft-control check`: what is wrong in a directory of manifests.

use crate::{
    args::Output,
    report,
    source::{SourceError, directory::Scanner},
};
use comfy_table::{Table, presets::NOTHING};
use std::{path::PathBuf, process::ExitCode, time::Instant};
use weft_index::{Finding, Index, IndexConfig, Severity};

/// Everything that is wrong in `dir`.
pub fn check(dir: PathBuf, config: IndexConfig) -> Result<Vec<Finding>, SourceError> {
    if !dir.is_dir() {
        return Err(SourceError::NotADirectory(dir));
    }
    let batch = Scanner::new(dir).scan(Instant::now()).unwrap_or_default();
    let mut index = Index::new(config);
    index.apply(batch.changes);
    Ok(report::merge(&batch.findings, index.findings(), &batch.places))
}

pub(crate) fn run(dir: PathBuf, output: Output, root_namespace: Option<String>) -> anyhow::Result<ExitCode> {
    let mut config = IndexConfig::default();
    config.root_namespace = root_namespace.unwrap_or(config.root_namespace);
    let findings = check(dir, config)?;
    match output {
        Output::Table => print_table(&findings),
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        Output::Yaml => print!("{}", serde_yaml_ng::to_string(&findings)?),
    }
    let failed = findings.iter().any(|f| f.severity == Severity::Error);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_table(findings: &[Finding]) {
    if findings.is_empty() {
        println!("nothing is wrong");
        return;
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["SEVERITY", "FILE", "OBJECT", "FIELD", "WHAT", "MEND"]);
    for f in findings {
        let object = f.object.as_ref().map(ToString::to_string).unwrap_or_default();
        let file = f.file.clone().unwrap_or_default();
        table.add_row([
            f.severity.to_string(),
            file,
            object,
            f.field.clone(),
            f.message.clone(),
            f.mend.clone(),
        ]);
    }
    println!("{table}");
}
