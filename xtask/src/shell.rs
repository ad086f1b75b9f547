//! Other programs, shown as they are run.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

/// The top of the workspace.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where tools are installed that only this workspace needs; the build of the kernel programs looks there too.
pub fn tools() -> PathBuf {
    workspace().join("target/tools")
}

/// `cargo` with these arguments, run at the top of the workspace with our tools on its PATH.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace()).env("PATH", path());
    command
}

/// Runs a command with its output shown as it comes.
///
/// # Errors
/// When it cannot be run or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a command with what it prints sent to standard error.
///
/// # Errors
/// When it cannot be run or fails.
pub fn run_to_stderr(command: &mut Command) -> Result<()> {
    run(command.stdout(std::io::stderr()))
}

/// Runs a command and gives what it printed.
///
/// # Errors
/// When it cannot be run or fails, with what it said.
pub fn read(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.output().with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is on the PATH.
pub fn is_installed(program: &str) -> bool {
    env::split_paths(&path()).any(|directory| directory.join(program).is_file())
}

/// The PATH, with our tools before everything else.
pub fn path() -> OsString {
    let tools = tools().join("bin");
    let found = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(tools).chain(env::split_paths(&found));
    env::join_paths(all).unwrap_or(found)
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
