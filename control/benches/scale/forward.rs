//! A way in between that counts the bytes to the node.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Bytes to the node.
#[derive(Clone, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// So many since the last time.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// An address that leads to `to`.
pub fn open(to: &str) -> (SocketAddr, Count) {
    let (listener, count, to) = (TcpListener::bind("127.0.0.1:0").unwrap(), Count::default(), to.to_owned());
    let (address, counted) = (listener.local_addr().unwrap(), count.clone());
    thread::spawn(move || {
        for node in listener.incoming().flatten() {
            let control = TcpStream::connect(&to).unwrap();
            let (up, down) = (node.try_clone().unwrap(), control.try_clone().unwrap());
            thread::spawn(move || copy(up, control, &Count::default()));
            let counted = counted.clone();
            thread::spawn(move || copy(down, node, &counted));
        }
    });
    (address, count)
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &Count) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes) = from.read(&mut buffer)
        && bytes > 0
        && to.write_all(&buffer[..bytes]).is_ok()
    {
        count.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    to.shutdown(Shutdown::Both).ok();
}
