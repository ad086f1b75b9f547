//! Files that are made from others: the manifests for those who install without Helm.

use crate::shell;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use weft_cluster::Parts;

/// The release's name and namespace, the only ones there are.
const RELEASE: [&str; 4] = ["template", "weft", "--namespace", "weft-system"];
/// A Kubernetes that the chart accepts: a helm that Go installed takes itself for one of years ago.
const KUBERNETES: &str = "1.34.0";
/// Types of Istio's are a choice of their own, which `kubectl apply` cannot make.
const VALUES: &str = "namespace.create=true,crds.istio=false,hooks.uninstall.enabled=false";
/// What only Helm makes of its objects.
const HELMS_OWN: [&str; 3] = ["app.kubernetes.io/managed-by:", "helm.sh/chart:", "# Source:"];
const HEAD: &str = "\
# Weft, for `kubectl apply -f`. Made from deploy/helm/weft by `cargo xtask generate`; values are the chart's defaults.
# Where Istio's CRDs are not there: kubectl apply -f deploy/helm/weft/files/crds
";

#[derive(Args, Default)]
pub struct Options {
    /// Write nothing; fail where a file is not what it would be made
    #[arg(long)]
    pub check: bool,
}

/// Makes them, or compares.
///
/// # Errors
/// Without helm, when the chart is wrong, and with `--check` when a file differs.
pub fn run(options: &Options) -> Result<()> {
    same_versions()?;
    let Some(helm) = helm() else {
        bail!(
            "no helm here: put one on the PATH, name it in WEFT_HELM, or let `cargo xtask cluster up` build one"
        );
    };
    let path = shell::workspace().join("deploy/manifests/weft.yaml");
    let wanted = render(&helm)?;
    if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
        println!("{} is up to date", path.display());
        return Ok(());
    }
    if options.check {
        bail!("{} is not what the chart makes: run `cargo xtask generate`", path.display());
    }
    fs::create_dir_all(path.parent().context("the manifests have a directory")?)?;
    fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn render(helm: &Path) -> Result<String> {
    let mut command = Command::new(helm);
    command.args(RELEASE).arg("deploy/helm/weft").current_dir(shell::workspace());
    command.args(["--kube-version", KUBERNETES, "--no-hooks", "--set", VALUES]);
    let rendered = shell::read(&mut command)?;
    let ours =
        rendered.lines().filter(|line| !HELMS_OWN.iter().any(|own| line.trim_start().starts_with(own)));
    let body: Vec<_> = ours.map(str::trim_end).collect();
    Ok(format!("{HEAD}{}\n", body.join("\n").trim_end()))
}

/// The chart's versions are the workspace's.
fn same_versions() -> Result<()> {
    let chart = fs::read_to_string(shell::workspace().join("deploy/helm/weft/Chart.yaml"))?;
    let wanted = env!("CARGO_PKG_VERSION");
    for key in ["version:", "appVersion:"] {
        let found = chart.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
        if found != wanted {
            bail!("deploy/helm/weft/Chart.yaml: {key} {found}, but the workspace is {wanted}");
        }
    }
    Ok(())
}

/// The helm that is named, or on the PATH, or that was built for a test cluster.
fn helm() -> Option<PathBuf> {
    let named = env::var_os("WEFT_HELM").map(PathBuf::from);
    let on_path = env::split_paths(&shell::path()).map(|dir| dir.join("helm")).find(|file| file.is_file());
    named.or(on_path).or_else(|| Some(Parts::find().ok()?.directory().join("helm")))
}
