//! Compiles `weft-ebpf` for the kernel's machine, with the toolchain that builds the rest.
//!
//! A pinned stable compiler is enough: `RUSTC_BOOTSTRAP` lets it build `core` for the BPF target, and bpf-linker (at the
//! version that fits the compiler's LLVM) turns the result into an object that the agent includes.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The version that works with the pinned compiler; newer ones want a newer LLVM.
const LINKER_VERSION: &str = "0.10.3";

/// Everything that the object is made of, relative to the workspace.
const SOURCES: [&str; 6] =
    ["Cargo.toml", "Cargo.lock", "ebpf/Cargo.toml", "ebpf/src", "ebpf/abi/Cargo.toml", "ebpf/abi/src"];

/// Builds the object into `OUT_DIR/weft-ebpf.o`. An error says what is missing and how to mend it.
pub fn build() -> Result<(), String> {
    let root = variable("CARGO_MANIFEST_DIR")?.join("..");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let out = variable("OUT_DIR")?;
    // target/<profile>/build/<package>-<hash>/out: the folder of the profile outlives a change of the hash.
    let work = out.ancestors().nth(3).unwrap_or(&out).join("ebpf");
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let linker = find_linker(&root)?;
    compile(&root, &work, target, &linker)?;
    let object = work.join(target).join("ebpf/weft-ebpf");
    let copied = out.join("weft-ebpf.o");
    fs::copy(&object, &copied).map_err(|e| format!("cannot copy {}: {e}", object.display()))?;
    Ok(())
}

fn compile(root: &Path, work: &Path, target: &str, linker: &Path) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let mut command = Command::new(cargo);
    command
        .current_dir(root.join("ebpf"))
        .args(["build", "--package", "weft-ebpf", "--bin", "weft-ebpf", "--profile", "ebpf"])
        .args(["-Z", "build-std=core", "--target", target, "--target-dir"])
        .arg(work)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", path_with(linker)?)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{arch}\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf"),
        );
    if env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() {
        command.args(["--features", "log"]);
    }
    // What the outer cargo, or clippy, set for the host's machine must not reach the build for the kernel's.
    for name in ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET", "CLIPPY_ARGS"] {
        command.env_remove(name);
    }
    let output = command.output().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let hint = if said.contains("rust-src") {
        "\nThe kernel programs need the source of `core`: rustup component add rust-src"
    } else {
        ""
    };
    Err(format!("the kernel programs do not build:\n{said}{hint}"))
}

/// bpf-linker: where `cargo xtask` installs it, on the PATH, or where `cargo install` puts it.
fn find_linker(root: &Path) -> Result<PathBuf, String> {
    let tools = root.join("target/tools/bin");
    let installed = env::var_os("CARGO_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(tools).chain(env::split_paths(&path)).chain(installed);
    places.map(|dir| dir.join("bpf-linker")).find(|file| file.is_file()).ok_or_else(|| {
        format!(
            "bpf-linker is missing: the kernel programs cannot be built.\n\
             Install it: cargo install bpf-linker --version {LINKER_VERSION} --locked --root target/tools"
        )
    })
}

/// The PATH with the linker's folder in front.
fn path_with(linker: &Path) -> Result<OsString, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dir = linker.parent().unwrap_or(Path::new(".")).to_owned();
    let absolute = fs::canonicalize(&dir).unwrap_or(dir);
    env::join_paths(std::iter::once(absolute).chain(env::split_paths(&path))).map_err(|e| e.to_string())
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {name}"))
}
