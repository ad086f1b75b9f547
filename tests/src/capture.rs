//! Capture of what crosses an interface, into a pcap file that other tools read too.

use crate::{Netns, wire::Wire};
use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use std::{
    fs::File,
    io::{BufWriter, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Room for frames that wait to be written: a burst at several gigabits.
const QUEUE_BYTES: usize = 64 << 20;

/// The largest frame: a segment that veth never had to cut, with its headers.
const LARGEST_FRAME: usize = 256 << 10;

/// Where the capture stops writing, so that it cannot fill the disk.
const LARGEST_FILE: u64 = 1 << 30;

/// A capture that is going on.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
    file: PathBuf,
}

impl Capture {
    /// Begins to capture both directions of an interface; on return it sees every frame.
    pub fn start(netns: &Netns, interface: &str, file: &Path) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (opened, is_open) = mpsc::sync_channel(1);
        let (netns, interface) = (netns.clone(), interface.to_owned());
        let (stopped, path) = (stop.clone(), file.to_owned());
        let thread = thread::spawn(move || {
            netns.run(|| {
                let index = nix::net::if_::if_nametoindex(interface.as_str())
                    .with_context(|| format!("no interface {interface}"))?;
                let socket = open()?;
                let mut pcap = Pcap::create(&path)?;
                opened.send(())?;
                record(&socket, usize::try_from(index)?, &mut pcap, &stopped)
            })
        });
        match is_open.recv() {
            Ok(()) => Ok(Self { stop, thread, file: file.to_owned() }),
            // It ended before the socket was open: its result says why.
            Err(_) => {
                Err(join(thread).err().unwrap_or_else(|| anyhow!("ended at once")).context("cannot capture"))
            }
        }
    }

    /// Ends the capture and reads what it saw.
    pub fn stop(self) -> Result<Wire> {
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)?;
        Wire::read(&self.file)
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("the capture panicked"))?
}

fn open() -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("cannot open a packet socket")?;
    setsockopt(&socket, sockopt::RcvBufForce, &QUEUE_BYTES)?;
    let timeout = nix::sys::time::TimeVal::new(0, 20_000);
    setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
    Ok(socket)
}

/// Writes frames until it is told to stop and nothing more is waiting.
fn record(socket: &OwnedFd, interface: usize, pcap: &mut Pcap, stop: &AtomicBool) -> Result<()> {
    let mut frame = vec![0; LARGEST_FRAME];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            // The socket hears all interfaces of the namespace: binding it to one would take `unsafe`.
            Ok((length, Some(from))) if from.ifindex() == interface => pcap.write(&frame[..length])?,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::EAGAIN) if stop.load(Ordering::Relaxed) => return pcap.finish(),
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(errno) => return Err(errno).context("cannot receive frames"),
        }
    }
}

/// A pcap file (the classic format, microseconds, Ethernet).
struct Pcap {
    file: BufWriter<File>,
    written: u64,
}

impl Pcap {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut file = BufWriter::new(file);
        file.write_all(&0xa1b2_c3d4_u32.to_ne_bytes())?;
        file.write_all(&2_u16.to_ne_bytes())?;
        file.write_all(&4_u16.to_ne_bytes())?;
        file.write_all(&[0; 8])?;
        file.write_all(&u32::try_from(LARGEST_FRAME)?.to_ne_bytes())?;
        file.write_all(&1_u32.to_ne_bytes())?;
        Ok(Self { file, written: 0 })
    }

    fn write(&mut self, frame: &[u8]) -> Result<()> {
        anyhow::ensure!(self.written < LARGEST_FILE, "the capture has grown past {LARGEST_FILE} bytes");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let length = u32::try_from(frame.len())?;
        // The format's clock wraps in 2106.
        self.file.write_all(&(now.as_secs() as u32).to_ne_bytes())?;
        self.file.write_all(&now.subsec_micros().to_ne_bytes())?;
        self.file.write_all(&length.to_ne_bytes())?;
        self.file.write_all(&length.to_ne_bytes())?;
        self.file.write_all(frame)?;
        self.written += u64::from(length);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.file.flush()?)
    }
}
