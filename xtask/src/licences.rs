//! The dependencies' licences and sources, held against `deny.toml`.
//!
//! The file is cargo-deny's, and whoever has that tool may run it; installing it takes longer than all our tests, so
//! the rules that this workspace uses are also checked here, over `cargo metadata` alone and without a network.
//! cargo-deny's advisories need a database from the network and are not part of this.

mod expression;

use crate::shell;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;

/// What is read of deny.toml.
#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// What is read of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

/// Checks every package that the lock file names.
///
/// # Errors
/// Lists every package that breaks a rule.
pub fn run() -> Result<()> {
    let rules = fs::read_to_string(shell::workspace().join("deny.toml")).context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&rules).context("deny.toml")?;
    let metadata = shell::read(&mut shell::cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let broken: Vec<_> = metadata.packages.iter().flat_map(|package| faults(package, &rules)).collect();
    if !broken.is_empty() {
        bail!("{} rules of deny.toml are broken:\n  {}", broken.len(), broken.join("\n  "));
    }
    println!("{} packages keep to deny.toml", metadata.packages.len());
    Ok(())
}

fn faults(package: &Package, rules: &Rules) -> Vec<String> {
    let Package { name, version, license, source, dependencies } = package;
    let mut faults = Vec::new();
    match license.as_deref().map(|license| expression::allowed(license, &rules.licenses.allow)) {
        Some(Ok(true)) => {}
        Some(Ok(false)) => {
            faults.push(format!("{name} {version}: {} is not allowed", license.as_deref().unwrap_or("")));
        }
        Some(Err(error)) => faults.push(format!("{name} {version}: {error}")),
        None => faults.push(format!("{name} {version}: says no licence")),
    }
    match source {
        Some(source) => {
            let known = |allowed: &String| source.strip_prefix("registry+") == Some(allowed);
            if !rules.sources.allow_registry.iter().any(known) {
                faults.push(format!("{name} {version}: comes from {source}"));
            }
        }
        // A package of this workspace: it may not leave a version open.
        None => {
            let open = dependencies.iter().filter(|found| found.req == "*" && found.path.is_none());
            faults.extend(open.map(|found| format!("{name}: any version of {} will do", found.name)));
        }
    }
    faults
}
