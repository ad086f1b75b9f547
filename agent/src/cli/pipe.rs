//! `pipe`: joins the standard streams with the agent's socket. `weft-agent --kube` runs it in the agents' containers and
//! speaks to the admin interface through it.

use super::client::{self, CliError};
use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    thread,
};

/// Copies both ways until the agent has ended its side. Blocking, with a thread of its own for the input: a read of the
/// standard input cannot be called off, and the process ends without waiting for it.
pub fn run(socket: Option<&Path>, node: Option<&str>, sockets: &Path) -> Result<(), CliError> {
    let path = client::find(socket, node, sockets)?;
    let unreachable = |e: &io::Error| client::unreachable(path.clone(), e);
    let agent = UnixStream::connect(&path).map_err(|e| unreachable(&e))?;
    let asked = agent.try_clone()?;
    thread::spawn(move || {
        // However it ends, there is nothing more to ask; the other direction says what became of it.
        let _ = copy(&mut io::stdin().lock(), &mut &asked);
        let _ = asked.shutdown(Shutdown::Write);
    });
    copy(&mut &agent, &mut io::stdout().lock())?;
    Ok(())
}

/// Copies, and hands on at once what there is.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = [0; 16 << 10];
    loop {
        let n = match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        to.write_all(bytes.get(..n).unwrap_or_default())?;
        to.flush()?;
    }
}
