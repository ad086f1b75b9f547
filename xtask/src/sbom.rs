//! What a program is made of: its packages and their licences, as SPDX 2.3 and as text.

use crate::shell;
use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

#[derive(Args)]
pub struct Options {
    /// The package, as `weft-agent`
    package: String,
    /// The directory for sbom.spdx.json and LICENSES.dependencies
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Writes a program's bill and its licences.
pub fn run(options: &Options) -> Result<()> {
    let bill = Bill::of(&options.package)?;
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join("sbom.spdx.json"), format!("{:#}\n", bill.spdx()))?;
    fs::write(options.out.join("LICENSES.dependencies"), bill.licences()?)?;
    Ok(())
}

/// What is read of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// What is read of Cargo.lock.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// What a program is made of.
pub struct Bill {
    program: Package,
    packages: Vec<Package>,
    relations: Vec<(String, String)>,
    checksums: BTreeMap<(String, String), String>,
}

impl Bill {
    /// The bill of the workspace's package `name`, for the platform of this machine.
    ///
    /// # Errors
    /// When cargo cannot say.
    pub fn of(name: &str) -> Result<Self> {
        let host =
            shell::read(std::process::Command::new("rustc").arg("-vV").current_dir(shell::workspace()))?;
        let host =
            host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
        let metadata: Metadata = serde_json::from_str(&shell::read(&mut shell::cargo(&args))?)?;
        let lock: Lock = toml::from_str(&fs::read_to_string(shell::workspace().join("Cargo.lock"))?)?;
        let sums = lock.package.into_iter().filter_map(|p| Some(((p.name, p.version), p.checksum?)));
        Self::from(name, metadata, sums.collect())
    }

    fn from(name: &str, metadata: Metadata, checksums: BTreeMap<(String, String), String>) -> Result<Self> {
        let by_id: BTreeMap<_, _> = metadata.packages.into_iter().map(|p| (p.id.clone(), p)).collect();
        let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
        let ours = |p: &&Package| p.name == name && p.source.is_none();
        let program = by_id.values().find(ours).with_context(|| format!("no package {name}"))?.clone();
        let (mut known, mut next) = (BTreeSet::from([program.id.clone()]), vec![program.id.clone()]);
        let mut relations = Vec::new();
        while let Some(id) = next.pop() {
            // What tests and build scripts use does not end up in the program.
            let linked = |d: &&Dependency| d.dep_kinds.iter().any(|k| k.kind.is_none());
            for dependency in nodes.get(id.as_str()).into_iter().flat_map(|n| &n.deps).filter(linked) {
                relations.push((id.clone(), dependency.pkg.clone()));
                if known.insert(dependency.pkg.clone()) {
                    next.push(dependency.pkg.clone());
                }
            }
        }
        relations.sort();
        let mut packages: Vec<_> = known.iter().filter_map(|id| by_id.get(id)).cloned().collect();
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(Self { program, packages, relations, checksums })
    }

    /// The bill as an SPDX document. The same sources give the same bytes.
    pub fn spdx(&self) -> Value {
        let Package { name, version, .. } = &self.program;
        let ids: BTreeMap<_, _> = self
            .packages
            .iter()
            .enumerate()
            .map(|(n, p)| (p.id.as_str(), format!("SPDXRef-Package-{n}")))
            .collect();
        let reference = |id: &str| ids.get(id).cloned().unwrap_or_default();
        let described = json!({"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                               "relatedSpdxElement": reference(&self.program.id)});
        let relations = self.relations.iter().map(|(from, to)| {
            json!({"spdxElementId": reference(from), "relationshipType": "DEPENDS_ON",
                   "relatedSpdxElement": reference(to)})
        });
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": format!("{name}-{version}"),
            "documentNamespace": format!("https://weft.dev/spdx/{name}-{version}"),
            "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Tool: cargo-xtask-image"]},
            "packages": self.packages.iter().map(|p| self.package(p, &reference(&p.id))).collect::<Vec<_>>(),
            "relationships": std::iter::once(described).chain(relations).collect::<Vec<_>>(),
        })
    }

    fn package(&self, package: &Package, id: &str) -> Value {
        let Package { name, version, license, source, repository, .. } = package;
        // Old manifests separate alternatives with a slash.
        let license = license.as_deref().map_or("NOASSERTION".to_owned(), |l| l.replace('/', " OR "));
        let download = match (source, repository) {
            (Some(_), _) => format!("https://crates.io/api/v1/crates/{name}/{version}/download"),
            (None, Some(repository)) => repository.clone(),
            (None, None) => "NOASSERTION".to_owned(),
        };
        let mut found = json!({
            "SPDXID": id, "name": name, "versionInfo": version, "downloadLocation": download,
            "licenseDeclared": license, "licenseConcluded": "NOASSERTION", "copyrightText": "NOASSERTION",
            "filesAnalyzed": false,
        });
        if source.is_some() {
            found["externalRefs"] = json!([{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                                            "referenceLocator": format!("pkg:cargo/{name}@{version}")}]);
        }
        if let Some(sum) = self.checksums.get(&(name.clone(), version.clone())) {
            found["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sum}]);
        }
        found
    }

    /// Every package's licence, and the texts that came with them, each once.
    pub fn licences(&self) -> Result<String> {
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut list = format!("{} is licensed under Apache-2.0. It is made with:\n\n", self.program.name);
        for package in self.packages.iter().filter(|p| p.source.is_some()) {
            let label = format!("{} {}", package.name, package.version);
            list += &format!("{label}: {}\n", package.license.as_deref().unwrap_or("see below"));
            for text in licence_files(package.manifest_path.parent().context("a manifest is in a folder")?)? {
                texts.entry(text).or_default().push(label.clone());
            }
        }
        for (text, of) in texts {
            list += &format!("\n{}\nOf {}\n\n{}\n", "-".repeat(80), of.join(", "), text.trim());
        }
        Ok(list)
    }
}

fn licence_files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_one = ["LICENSE", "LICENCE", "COPYING", "NOTICE"].iter().any(|word| name.starts_with(word));
        if is_one && path.is_file() {
            found.push(String::from_utf8_lossy(&fs::read(&path)?).replace('\r', ""));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_built_with_is_left_out() {
        let package = |name: &str, source: Option<&str>| {
            json!({"id": format!("{name} id"), "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                   "source": source, "repository": null, "manifest_path": "/x/Cargo.toml"})
        };
        let dep = |name: &str, kind: Option<&str>| json!({"pkg": format!("{name} id"), "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("weft", None), package("a", Some("r")), package("b", Some("r")), package("c", Some("r"))],
            "resolve": {"nodes": [
                {"id": "weft id", "deps": [dep("a", None), dep("c", Some("dev"))]},
                {"id": "a id", "deps": [dep("b", Some("build"))]},
                {"id": "b id", "deps": []}, {"id": "c id", "deps": []},
            ]},
        });
        let sums = BTreeMap::from([(("a".to_owned(), "1.0.0".to_owned()), "ff".to_owned())]);
        let bill =
            Bill::from("weft", serde_json::from_value(metadata).expect("metadata"), sums).expect("a bill");
        let spdx = bill.spdx();
        let names: Vec<_> =
            spdx["packages"].as_array().expect("packages").iter().map(|p| &p["name"]).collect();
        assert_eq!(names, ["a", "weft"]);
        assert_eq!(spdx["packages"][0]["licenseDeclared"], "MIT OR Apache-2.0");
        assert_eq!(spdx["packages"][0]["checksums"][0]["checksumValue"], "ff");
        assert_eq!(spdx["relationships"][0]["relatedSpdxElement"], spdx["packages"][1]["SPDXID"]);
        assert_eq!(spdx["relationships"].as_array().map(Vec::len), Some(2));
    }
}
