//! The `ip` command in batches: one process for many changes.

use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Runs `ip` commands (without the word `ip`) in the namespace called `netns`, or in this one; stops at the first that
/// fails and says which one it was.
pub fn batch(netns: Option<&str>, commands: &[String]) -> Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let mut ip = Command::new("ip");
    if let Some(netns) = netns {
        ip.args(["-netns", netns]);
    }
    let mut child = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip` (Debian package iproute2)")?;
    let mut stdin = child.stdin.take().context("ip has no stdin")?;
    // A batch that fails early closes the pipe; what it printed says more than the broken pipe.
    let written = stdin.write_all((commands.join("\n") + "\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written.context("cannot write to ip");
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let failed = failed_line(&errors).and_then(|line| commands.get(line - 1));
    bail!("ip {}: {}", failed.map_or("-batch", String::as_str), errors.trim());
}

/// The number of the command that failed, from ip's `Command failed -:<line>`.
fn failed_line(errors: &str) -> Option<usize> {
    let (_, rest) = errors.split_once("Command failed -:")?;
    rest.lines().next()?.trim().parse().ok().filter(|line| *line > 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_that_failed_is_found() {
        assert_eq!(super::failed_line("RTNETLINK answers: File exists\nCommand failed -:12\n"), Some(12));
        assert_eq!(super::failed_line("Object \"nonsense\" is unknown"), None);
    }
}
