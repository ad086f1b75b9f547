//! Removal by name: everything that a cluster made, whatever is left of it.

use crate::{cgroups, files, network, plan};
use anyhow::{Result, ensure};
use std::path::Path;

/// Removes the cluster called `name`; what is not there is no error. Goes on past what fails, and then says what did.
pub(crate) fn remove(name: &str) -> Result<()> {
    plan::check_name(name)?;
    let plan = plan::Plan::find(name);
    let mut failed = Vec::new();
    let mut attempt = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            failed.push(format!("{what}: {error:#}"));
        }
    };
    let cgroup = plan::cgroup(name);
    attempt("processes and cgroups", cgroups::remove(&cgroup));
    for netns in namespaces(name)? {
        attempt("namespaces", network::remove_namespace(&netns));
    }
    if let Ok(Some(plan)) = &plan {
        attempt("links", network::remove_link(&plan.bridge()));
    }
    attempt("files", files::remove_directory(&Path::new(plan::DATA).join(name)));
    // The plan goes last: without it, nobody knows the bridge.
    attempt("files", files::remove_directory(&plan::run_directory(name)));
    ensure!(failed.is_empty(), "the cluster {name} is not all gone: {}", failed.join("; "));
    Ok(())
}

/// What is left of the cluster called `name`: paths and names, empty when it is all gone.
pub(crate) fn remains(name: &str) -> Result<Vec<String>> {
    let mut left = namespaces(name)?;
    left.extend(cgroups::remains(&plan::cgroup(name))?.iter().map(|path| path.display().to_string()));
    for path in [Path::new(plan::DATA).join(name), plan::run_directory(name)] {
        if path.exists() {
            left.push(path.display().to_string());
        }
    }
    Ok(left)
}

fn namespaces(name: &str) -> Result<Vec<String>> {
    let prefix = format!("{}-node-", plan::cgroup(name));
    let mut names = files::list(Path::new("/run/netns"))?;
    // A cluster's name may begin with another one's.
    names.retain(|netns| {
        netns.strip_prefix(&prefix).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Ok(names)
}
