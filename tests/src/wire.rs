//! What a capture saw: TCP connections, and whether some bytes were among theirs.

use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// A capture, read back.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The pcap file; none where a proxy in between kept the bytes.
    pub file: Option<PathBuf>,
    /// Frames of any kind; or reads, where a proxy kept the bytes.
    pub frames: u64,
    /// Bytes of all frames.
    pub bytes: u64,
    /// One direction each of every TCP connection.
    pub streams: BTreeMap<Direction, Stream>,
    /// Every frame, one after the other, as it was on the wire.
    raw: Vec<u8>,
}

/// One direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direction {
    /// Who sent.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
}

impl Direction {
    /// The other direction of the same connection.
    pub fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }

    /// Whether this is the client's direction: of the two ports, the ephemeral one is the client's.
    pub fn is_to_server(&self) -> bool {
        self.to.port() < self.from.port()
    }
}

/// What one side of a TCP connection sent, in the order of arrival; what was sent again is there again.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The payload.
    pub payload: Vec<u8>,
}

impl Stream {
    /// Whether the stream begins with a TLS handshake record.
    pub fn is_tls(&self) -> bool {
        matches!(self.payload.as_slice(), [22, 3, 1..=3, ..])
    }
}

impl Wire {
    /// Reads a pcap file as [`crate::Capture`] writes it.
    pub fn read(file: &Path) -> Result<Self> {
        let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut wire = Self::parse(&data).with_context(|| format!("{}", file.display()))?;
        wire.file = Some(file.to_owned());
        Ok(wire)
    }

    /// What a proxy in between has kept of the streams, in `reads` reads.
    pub fn kept(streams: BTreeMap<Direction, Stream>, reads: u64) -> Self {
        let bytes = streams.values().map(|stream| stream.payload.len() as u64).sum();
        Self { file: None, frames: reads, bytes, streams, raw: Vec::new() }
    }

    fn parse(data: &[u8]) -> Result<Self> {
        const HEADER: usize = 24;
        const RECORD: usize = 16;
        ensure!(data.len() >= HEADER && data[..4] == 0xa1b2_c3d4_u32.to_ne_bytes(), "not a pcap file");
        let mut wire = Self { file: None, frames: 0, bytes: 0, streams: BTreeMap::new(), raw: Vec::new() };
        let mut rest = &data[HEADER..];
        while let Some((record, after)) = rest.split_first_chunk::<RECORD>() {
            let length = u32::from_ne_bytes([record[8], record[9], record[10], record[11]]) as usize;
            ensure!(after.len() >= length, "the file ends within a frame");
            let (frame, after) = after.split_at(length);
            wire.frames += 1;
            wire.bytes += length as u64;
            wire.raw.extend_from_slice(frame);
            if let Some((direction, payload)) = tcp(frame) {
                wire.streams.entry(direction).or_default().payload.extend_from_slice(payload);
            }
            rest = after;
        }
        Ok(wire)
    }

    /// Whether `marker` was on the wire: within a TCP stream, also across its segments, or in any frame whatsoever.
    pub fn contains(&self, marker: &[u8]) -> bool {
        let within = |bytes: &[u8]| bytes.windows(marker.len()).any(|window| window == marker);
        self.streams.values().any(|stream| within(&stream.payload)) || within(&self.raw)
    }

    /// The streams sent to this port.
    pub fn to_port(&self, port: u16) -> impl Iterator<Item = (&Direction, &Stream)> {
        self.streams.iter().filter(move |(direction, _)| direction.to.port() == port)
    }
}

/// The TCP segment in an Ethernet frame, if it holds one.
fn tcp(frame: &[u8]) -> Option<(Direction, &[u8])> {
    let packet = frame.get(14..)?;
    let (from, to, segment): (IpAddr, IpAddr, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
            (*packet.get(9)? == 6).then_some(())?;
            let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            // Short frames are padded; what lies after the packet is no payload.
            (Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), packet.get(header..total)?)
        }
        [0x86, 0xdd] => {
            (*packet.get(6)? == 6).then_some(())?;
            let total = 40 + usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
            let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), packet.get(40..total)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
    let direction = Direction { from: SocketAddr::new(from, port(0)?), to: SocketAddr::new(to, port(2)?) };
    let header = usize::from(segment.get(12)? >> 4) * 4;
    Some((direction, segment.get(header..)?))
}
