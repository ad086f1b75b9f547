//! The applications in `weft-app`, started in a place and read back.

use crate::{Place, Process, binaries};
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// How long a client may take unless the scenario says otherwise.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a client of `weft-app` in the place and gives the JSON of its last line. A failed call is a result as well:
/// `"ok": false` with the name of the error.
pub fn run(place: &Place, args: &[&str]) -> Result<Value> {
    run_within(place, LIMIT, args)
}

/// Like [`run`], with a limit of one's own.
pub fn run_within(place: &Place, limit: Duration, args: &[&str]) -> Result<Value> {
    let output = place.output(binaries::find("weft-app")?, args, limit)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| {
        format!(
            "weft-app {} in {} printed {stdout:?} and {:?}",
            args.join(" "),
            place.name,
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// Starts a client that goes on in the background; its result comes by [`result`].
pub fn start(place: &Place, name: &str, args: &[&str]) -> Result<Process> {
    place.spawn(name, binaries::find("weft-app")?, args)
}

/// Waits for the end of a client that was started by [`start`], and gives its result.
pub fn result(mut client: Process, limit: Duration) -> Result<Value> {
    client.wait(limit)?;
    let log = client.log()?;
    let line = log.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{} printed {log:?}", client.name()))
}

/// Starts `weft-app serve <manner>` in the place and waits until it listens.
pub fn serve(place: &Place, manner: &str, port: u16) -> Result<Process> {
    let name = format!("{}-{manner}-{port}", place.name);
    ready(place.spawn(&name, binaries::find("weft-app")?, &["serve", manner, "--port", &port.to_string()])?)
}

/// Starts `weft-app http` in the place and waits until it listens.
pub fn serve_http(place: &Place, port: u16) -> Result<Process> {
    let name = format!("{}-http-{port}", place.name);
    let args = ["http", "--name", &place.name, "--port", &port.to_string()];
    ready(place.spawn(&name, binaries::find("weft-app")?, &args)?)
}

fn ready(mut process: Process) -> Result<Process> {
    process.wait_for_line(Duration::from_secs(10), |line| line.contains(r#""ready""#))?;
    Ok(process)
}
