//! Images of our own programs, without a container engine: OCI archives, as `ctr images import` and `skopeo` read them.
//!
//! deploy/images has the recipes for those who build with an engine; what is in the images is the same.

use crate::{build, sbom::Bill, shell};
use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use weft_cluster::{
    Cluster,
    image::{Image, stripped},
};

/// Nobody in particular, as distroless images call it.
const NONROOT: &str = "65532:65532";
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
const NAMES: &str = "hosts: files dns\n";

/// What there are images of: the program, its package and whom it runs as. The agent is root within its capabilities.
pub const PROGRAMS: [(&str, &str, &str); 2] =
    [("agent", "weft-agent", "0:0"), ("control", "weft-control", NONROOT)];

#[derive(Args, Default)]
pub struct Options {
    /// Optimise
    #[arg(long)]
    pub release: bool,
    /// Where the archives go [default: target/images]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Import them into this cluster of `cargo xtask cluster`
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

pub fn run(options: &Options) -> Result<()> {
    let cluster = options.cluster.as_deref().map(Cluster::open).transpose()?;
    for (archive, name) in build(options)? {
        println!("{name}\t{}", archive.display());
        if let Some(cluster) = &cluster {
            cluster.import(&archive)?;
        }
    }
    Ok(())
}

/// Builds the programs and their images; the archives and the names they are imported under.
///
/// # Errors
/// When something does not build.
pub fn build(options: &Options) -> Result<Vec<(PathBuf, String)>> {
    let profile = if options.release { "release" } else { "debug" };
    if options.release {
        let mut args = vec!["build", "--locked", "--bins", "--release"];
        args.extend(PROGRAMS.iter().flat_map(|(_, package, _)| ["--package", package]));
        shell::run(&mut shell::cargo(&args))?;
    } else {
        // Those of the tests: by themselves they would have other features, and be built once more.
        build::binaries(false)?;
    }
    let target = target();
    let out = options.out.clone().unwrap_or_else(|| target.join("images"));
    let archive_of = |&(short, package, user): &(&str, &str, &str)| {
        let program = stripped(&target.join(profile).join(package), &target.join("stripped").join(profile))?;
        let image = image(short, package, user, &program)?;
        let archive = out.join(format!("{short}.tar"));
        image.build(&archive)?;
        Ok((archive, image.name().to_owned()))
    };
    PROGRAMS.iter().map(archive_of).collect()
}

fn image(short: &str, package: &str, user: &str, program: &Path) -> Result<Image> {
    let bill = Bill::of(package)?;
    let licence = std::fs::read_to_string(shell::workspace().join("LICENSE")).context("LICENSE")?;
    Ok(bare(short, env!("CARGO_PKG_VERSION"), package, user, program)?
        .text("/usr/share/weft/LICENSE", &licence)
        .text("/usr/share/weft/LICENSES.dependencies", &bill.licences()?)
        .text("/usr/share/weft/sbom.spdx.json", &serde_json::to_string_pretty(&bill.spdx())?))
}

/// An image of what a program needs to run, without what must come with it where it is given to others.
pub fn bare(short: &str, tag: &str, package: &str, user: &str, program: &Path) -> Result<Image> {
    let place = format!("/usr/local/bin/{package}");
    Ok(Image::new(&format!("weft.dev/{short}:{tag}"))
        .program(&place, program)?
        .text("/etc/passwd", PASSWD)
        .text("/etc/group", GROUP)
        .text("/etc/nsswitch.conf", NAMES)
        .directory("/tmp", 0o1777)
        .entrypoint(&[&place])
        .user(user))
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    named.map_or_else(|| shell::workspace().join("target"), |dir| shell::workspace().join(dir))
}
