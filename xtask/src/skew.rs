//! Agent and control of another revision, for the scenario that has them beside the present ones: built from that revision's
//! own sources, in a target directory of their own: in the same one cargo would take the crates of both for one another.

use crate::{
    image::{PROGRAMS, bare, target},
    shell,
};
use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use weft_cluster::{Cluster, image::stripped};

/// Their images' tag; `tests/cluster/tests/e2e/skew.rs` names it too.
const TAG: &str = "skew";

/// The revision to take where none is named: the newest release of the minor version before.
pub fn release_before() -> Result<Option<String>> {
    let minor: u64 = env!("CARGO_PKG_VERSION_MINOR").parse()?;
    let Some(before) = minor.checked_sub(1) else { return Ok(None) };
    let pattern = format!("v{}.{before}.*", env!("CARGO_PKG_VERSION_MAJOR"));
    let tags = git(&["tag", "--list", &pattern, "--sort=-version:refname"])?;
    Ok(tags.lines().next().map(str::to_owned))
}

/// The programs of another revision, ready for their images.
pub struct Other {
    /// Which commit it is.
    pub commit: String,
    directory: PathBuf,
}

/// Builds the programs of `revision`.
pub fn build(revision: &str) -> Result<Other> {
    let commit = git(&["rev-parse", "--verify", "--short=12", &format!("{revision}^{{commit}}")])?;
    let commit = commit.trim().to_owned();
    let (directory, target) = (target().join("skew").join(&commit), target().join("skew/build"));
    let sources = directory.join("sources");
    unpack(&commit, &sources)?;
    println!("building weft-agent and weft-control of {commit}");
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--workspace"]);
    build.args(PROGRAMS.iter().flat_map(|(_, program, _)| ["--bin", program]));
    // Its own toolchain file says which compiler.
    build.current_dir(&sources).env("CARGO_TARGET_DIR", &target).env_remove("RUSTUP_TOOLCHAIN");
    shell::run(&mut build)?;
    for (_, program, _) in PROGRAMS {
        stripped(&target.join("debug").join(program), &directory)?;
    }
    Ok(Other { commit, directory })
}

/// Makes the images of a revision and imports them.
pub fn import(other: &Other, cluster: &Cluster) -> Result<()> {
    for (short, package, user) in PROGRAMS {
        let archive = other.directory.join(format!("{short}.tar"));
        bare(short, TAG, package, user, &other.directory.join(package))?.build(&archive)?;
        cluster.import(&archive)?;
    }
    Ok(())
}

/// Unpacks the sources of `commit`, where they are not there yet; nothing of the repository knows of the copy.
fn unpack(commit: &str, to: &Path) -> Result<()> {
    if to.join("Cargo.toml").exists() {
        return Ok(());
    }
    let fresh: PathBuf = to.with_extension("new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh)?;
    }
    std::fs::create_dir_all(&fresh)?;
    let mut archive = Command::new("git");
    archive.args(["archive", "--format=tar", commit]).current_dir(shell::workspace()).stdout(Stdio::piped());
    let mut archive = archive.spawn().context("cannot run git")?;
    let tar = archive.stdout.take().context("git has no output")?;
    let unpacked = Command::new("tar").arg("-x").current_dir(&fresh).stdin(tar).status().context("tar")?;
    ensure!(archive.wait()?.success() && unpacked.success(), "the sources of {commit} cannot be unpacked");
    Ok(std::fs::rename(&fresh, to)?)
}

fn git(args: &[&str]) -> Result<String> {
    shell::read(Command::new("git").args(args).current_dir(shell::workspace()))
}
