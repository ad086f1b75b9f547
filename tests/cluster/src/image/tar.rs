//! The tar format (ustar), as much of it as layers need, with the digest of what is written.

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{self, SHA256};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

const BLOCK: usize = 512;

/// What stands at a path.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    File { from: PathBuf, mode: u32, size: u64 },
    Text(Vec<u8>),
    Directory { mode: u32 },
    Link(String),
}

/// A tar file that is being written.
pub(super) struct Tar<W> {
    to: W,
    digest: digest::Context,
}

impl<W: Write> Tar<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, digest: digest::Context::new(&SHA256) }
    }

    /// Adds an entry; everything belongs to root, and to the beginning of time.
    pub(super) fn add(&mut self, path: &str, entry: &Entry) -> Result<()> {
        match entry {
            Entry::File { from, mode, size } => {
                self.write(&header(path, *mode, *size, b'0', "")?)?;
                let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
                let written = self.copy(&mut file.take(*size))?;
                ensure!(written == *size, "{} has changed while it was read", from.display());
                self.pad(*size)
            }
            Entry::Text(content) => {
                let size = content.len() as u64;
                self.write(&header(path, 0o644, size, b'0', "")?)?;
                self.write(content)?;
                self.pad(size)
            }
            Entry::Directory { mode } => self.write(&header(&format!("{path}/"), *mode, 0, b'5', "")?),
            Entry::Link(to) => self.write(&header(path, 0o777, 0, b'2', to)?),
        }
    }

    /// Ends it; the digest of all that was written, in hexadecimal.
    pub(super) fn finish(mut self) -> Result<String> {
        self.write(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(hex(self.digest.finish().as_ref()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        Ok(self.to.write_all(bytes)?)
    }

    fn copy(&mut self, from: &mut impl Read) -> Result<u64> {
        let mut buffer = vec![0; 1 << 18];
        let mut written = 0;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(written),
                Ok(length) => {
                    self.write(&buffer[..length])?;
                    written += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let over = usize::try_from(size % BLOCK as u64)?;
        if over == 0 { Ok(()) } else { self.write(&[0; BLOCK][over..]) }
    }
}

fn header(path: &str, mode: u32, size: u64, kind: u8, link: &str) -> Result<[u8; BLOCK]> {
    let (prefix, name) = split(path)?;
    ensure!(link.len() <= 100, "{path}: the link's target is longer than 100 bytes");
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\x000000000\0");
    ensure!(size < 1 << 33, "{path} is larger than 8 GiB");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The sum is taken as if it were spaces.
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// A path of more than 100 bytes is stored in two parts.
fn split(path: &str) -> Result<(&str, &str)> {
    if path.len() <= 100 {
        return Ok(("", path));
    }
    let parts = path.match_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..]));
    let mut fitting = parts.filter(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100);
    match fitting.next() {
        Some(found) => Ok(found),
        None => bail!("{path}: the path is too long for an image"),
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(digest::digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
