//! The programs of Kubernetes, built from their published modules and kept between runs.

pub mod go;

use crate::files;
use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{self, SHA256};
use go::Go;
use nix::fcntl::{Flock, FlockArg};
use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Kubernetes' version; the module's requirements (`parts/kubernetes/go.mod`) name the same.
pub const KUBERNETES: &str = "v1.34.4";

/// CoreDNS' version; its module's requirements (`parts/coredns/go.mod`) name the same.
pub const COREDNS: &str = "v1.13.1";

/// Helm's version.
pub const HELM: &str = "v3.19.4";

/// The files of a Go module.
type Module = [(&'static str, &'static str); 3];

/// The module of ours that requires Kubernetes, whose own `go.mod` replaces modules by folders that nobody else has.
const MODULE: Module = [
    ("go.mod", include_str!("../parts/kubernetes/go.mod")),
    ("go.sum", include_str!("../parts/kubernetes/go.sum")),
    ("tools.go", include_str!("../parts/kubernetes/tools.go")),
];

/// CoreDNS with the few plugins that a cluster needs.
const DNS: Module = [
    ("go.mod", include_str!("../parts/coredns/go.mod")),
    ("go.sum", include_str!("../parts/coredns/go.sum")),
    ("main.go", include_str!("../parts/coredns/main.go")),
];

const PROGRAMS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// What is not Kubernetes' own.
const MORE: [&str; 2] = ["coredns", "helm"];

/// No names and no lines for debuggers.
const SMALL: [&str; 3] = ["-trimpath", "-gcflags=all=-dwarf=false", "-ldflags=-s -w"];

/// Names another place for the cache.
const OVERRIDE: &str = "WEFT_PARTS";

/// The programs that are built; a handle to their directory.
#[derive(Clone, Debug)]
pub struct Parts {
    directory: PathBuf,
}

impl Parts {
    /// The programs of these versions.
    ///
    /// # Errors
    /// When those of Kubernetes are not built yet.
    pub fn find() -> Result<Self> {
        let parts = Self { directory: directory()? };
        PROGRAMS.iter().try_for_each(|name| parts.program(name).map(drop))?;
        Ok(parts)
    }

    /// The program called `name`, one of Kubernetes' own, `coredns` or `helm`.
    ///
    /// # Errors
    /// When it is not built yet.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        ensure!(path.exists(), "{} is not built: cargo xtask cluster build", path.display());
        Ok(path)
    }

    /// Whether all of them are built.
    pub fn are_built() -> Result<bool> {
        let parts = Self { directory: directory()? };
        Ok(PROGRAMS.iter().chain(&MORE).all(|name| parts.path(name).exists()))
    }

    /// Builds what is not there yet, with the Go toolchain; says what it does.
    pub fn build() -> Result<Self> {
        let parts = Self { directory: directory()? };
        files::directory(&parts.directory)?;
        let file = File::create(parts.directory.join(".lock"))?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        if PROGRAMS.iter().any(|name| !parts.path(name).exists()) {
            parts.kubernetes()?;
        }
        if !parts.path("coredns").exists() {
            eprintln!("building CoreDNS {COREDNS}");
            parts.module("coredns", &DNS)?;
            let program = parts.making().join("bin/coredns").display().to_string();
            parts.go("coredns", &[&["build"], &SMALL[..], &["-o", &program, "."]].concat())?;
            parts.place(&["coredns"])?;
        }
        if !parts.path("helm").exists() {
            eprintln!("building Helm {HELM}");
            let module = format!("helm.sh/helm/v3/cmd/helm@{HELM}");
            parts.go("", &[&["install"], &SMALL[..], &[&module]].concat())?;
            parts.place(&["helm"])?;
        }
        files::remove_directory(&parts.making())?;
        Ok(parts)
    }

    /// The directory that they are in, to be put on a PATH.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a program or something else of this name is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn kubernetes(&self) -> Result<()> {
        eprintln!(
            "building Kubernetes {KUBERNETES} from its modules, which takes some five minutes on two cores"
        );
        self.module("kubernetes", &MODULE)?;
        // Clients and servers compare versions: without this they would all be v0.0.0.
        let short = KUBERNETES.trim_start_matches('v');
        let mut numbers = short.split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let [trimmed, bare, link] = SMALL;
        let mut link = link.to_owned();
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            for (name, value) in [
                ("gitVersion", KUBERNETES),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "clean"),
            ] {
                link += &format!(" -X {package}.{name}={value}");
            }
        }
        let packages: Vec<_> = PROGRAMS.iter().map(|name| format!("k8s.io/kubernetes/cmd/{name}")).collect();
        let mut args = vec!["install", trimmed, bare, &link];
        args.extend(packages.iter().map(String::as_str));
        self.go("kubernetes", &args)?;
        self.place(&PROGRAMS)
    }

    fn module(&self, folder: &str, module: &Module) -> Result<()> {
        module
            .iter()
            .try_for_each(|(name, content)| files::write(&self.making().join(folder).join(name), content))
    }

    /// Runs `go` in a folder below where things are made, and lets it put programs there.
    fn go(&self, folder: &str, args: &[&str]) -> Result<()> {
        let at = self.making().join(folder);
        files::directory(&at)?;
        let mut go = Go::ready()?.command(&at, args);
        let status = go.env("GOBIN", self.making().join("bin")).status().context("cannot run go")?;
        if !status.success() {
            bail!("go {} failed ({status}); its output says why", args.join(" "));
        }
        Ok(())
    }

    /// Moves whole programs to where they are looked for.
    fn place(&self, names: &[&str]) -> Result<()> {
        for name in names {
            fs::rename(self.making().join("bin").join(name), self.path(name))
                .with_context(|| format!("go has not built {name}"))?;
        }
        Ok(())
    }

    fn making(&self) -> PathBuf {
        self.directory.join(".making")
    }
}

/// The cache's directory for these versions and no others.
fn directory() -> Result<PathBuf> {
    if let Some(directory) = env::var_os(OVERRIDE) {
        return Ok(directory.into());
    }
    let home =
        env::var_os("HOME").with_context(|| format!("set HOME, or {OVERRIDE} to where programs are kept"))?;
    let mut hash = digest::Context::new(&SHA256);
    for (_, content) in MODULE.iter().chain(&DNS) {
        hash.update(content.as_bytes());
    }
    for text in [KUBERNETES, COREDNS, HELM, env::consts::ARCH] {
        hash.update(text.as_bytes());
    }
    let hash: String = hash.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(Path::new(&home).join(".cache/weft/parts").join(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_requires_the_version_that_is_told() {
        let (_, requirements) = MODULE[0];
        assert!(requirements.contains(&format!("require k8s.io/kubernetes {KUBERNETES}\n")));
        let staging = KUBERNETES.replacen("v1", "v0", 1);
        let replaced = requirements.lines().filter(|line| line.starts_with("replace k8s.io/"));
        assert!(replaced.clone().count() > 25 && replaced.clone().all(|line| line.ends_with(&staging)));
    }

    #[test]
    fn the_dns_is_of_the_version_that_is_told() {
        let (_, requirements) = DNS[0];
        assert!(requirements.contains(&format!("github.com/coredns/coredns {COREDNS}\n")));
    }

    #[test]
    fn every_program_is_named_in_the_module() {
        let (_, tools) = MODULE[2];
        assert!(PROGRAMS.iter().all(|name| tools.contains(&format!("\"k8s.io/kubernetes/cmd/{name}\""))));
    }
}
