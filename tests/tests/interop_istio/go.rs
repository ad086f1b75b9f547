//! Istio's side: a Go program built on Istio's packages.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

/// The program, built once a test run; says why where it cannot be had.
static PROGRAM: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/istio");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-istio");
    let mut build = Command::new("go");
    build.current_dir(source).args(["build", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    // A module that the cache lacks is fetched; a compiler that it lacks is not.
    let output = build.env("GOTOOLCHAIN", "local").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("the Go toolchain does not run: {error}"))?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("Istio's side does not build with the Go toolchain: {said}"))
});

/// The program, or `None` and a word to the reader; a failed build is no excuse where `WEFT_REQUIRE_KERNEL=1` and Go is
/// installed.
pub fn program() -> Option<&'static Path> {
    match &*PROGRAM {
        Ok(program) => Some(program),
        Err(why) => {
            let must = std::env::var("WEFT_REQUIRE_KERNEL").is_ok_and(|value| value == "1");
            assert!(!(must && is_installed()), "WEFT_REQUIRE_KERNEL=1 forbids to skip: {why}");
            println!("SKIPPED: {why}");
            None
        }
    }
}

fn is_installed() -> bool {
    Command::new("go").arg("version").output().is_ok()
}

/// Runs the program to its end with `input` and gives what it prints.
pub fn run(program: &Path, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The program as a server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it, and waits for the address that it prints.
    pub fn start(program: &Path, args: &[&str]) -> Self {
        let mut child =
            Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap_or_else(|_| panic!("{args:?} printed {line:?}"));
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
