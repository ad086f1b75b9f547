//! What the build and the tests need beyond cargo and a C compiler.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::process::Command;

/// The version whose LLVM is that of the pinned compiler; agent/build/kernel.rs demands the same.
const BPF_LINKER: &str = "0.10.3";

/// Components of the toolchain; `rust-src` is for the kernel programs' own build of `core`.
const COMPONENTS: [&str; 3] = ["clippy", "rust-src", "rustfmt"];

/// Programs that are called by name, and the Debian packages that hold them; libFuzzer is written in C++.
const PROGRAMS: [(&str, &str); 2] = [("c++", "g++"), ("ip", "iproute2")];

/// Installs what is missing, and says what it does.
pub fn run() -> Result<()> {
    toolchain()?;
    install(&PROGRAMS)
}

/// Installs what the build itself needs, for which nobody must be root.
pub fn toolchain() -> Result<()> {
    components()?;
    bpf_linker()
}

fn components() -> Result<()> {
    if !shell::is_installed("rustup") {
        println!("no rustup here: the toolchain must bring {} itself", COMPONENTS.join(", "));
        return Ok(());
    }
    let list = ["component", "list", "--installed"];
    let installed = shell::read(Command::new("rustup").args(list).current_dir(shell::workspace()))?;
    let has = |component: &str| installed.lines().any(|line| line.starts_with(component));
    for component in COMPONENTS {
        if has(component) {
            println!("{component}: there");
        } else {
            let add = ["component", "add", component];
            shell::run(Command::new("rustup").args(add).current_dir(shell::workspace()))?;
        }
    }
    Ok(())
}

fn bpf_linker() -> Result<()> {
    // The one on the PATH is as good, if it is the same.
    let mut version = Command::new("env");
    version.args(["bpf-linker", "--version"]).env("PATH", shell::path());
    if shell::read(&mut version).is_ok_and(|said| said.trim().ends_with(BPF_LINKER)) {
        println!("bpf-linker {BPF_LINKER}: there");
        return Ok(());
    }
    println!("bpf-linker {BPF_LINKER} is built once, which takes a minute or so");
    let root = shell::tools();
    let root = root.to_str().context("the workspace's path is not UTF-8")?;
    let args = ["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--root", root];
    shell::run(&mut shell::cargo(&args))
}

/// Installs the Debian packages of those programs (by name or path) that are missing.
pub fn install(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|(program, _)| !shell::is_installed(program)).collect();
    for (program, _) in programs.iter().filter(|program| !missing.contains(program)) {
        println!("{program}: there");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    let wanted = packages.join(" ");
    if !shell::is_installed("apt-get") {
        bail!("missing: {wanted} (Debian's names). Install them with this system's package manager");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("missing: {wanted}. As root: apt-get install -y {wanted}");
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "--no-install-recommends"]).args(&packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    shell::run(Command::new("apt-get").arg("update"))?;
    shell::run(&mut install)
}
