//! Where a captured connection is sent within its pod.

use weft_ebpf_abi::{CAPTURE_PORTS, Endpoint};

/// The port, of [`CAPTURE_PORTS`], that stands for `original` in the pod.
///
/// One source port may be connected to many destinations at once (an application that binds it, or the kernel when it
/// picks ephemeral ports): rewritten to one port these connections would have the same 4-tuple and fail with
/// EADDRNOTAVAIL. A hash keeps all but a few apart.
#[inline(always)]
pub fn capture_port(original: &Endpoint) -> u16 {
    let mut hash = u32::from(original.port);
    for word in original.addr.words {
        // MurmurHash3's mixing steps, enough here: nobody gains anything by making two of their own destinations meet.
        hash ^= word;
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
    }
    let (first, last) = (*CAPTURE_PORTS.start(), *CAPTURE_PORTS.end());
    first + (hash % (u32::from(last - first) + 1)) as u16
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::{collections::HashSet, net::SocketAddr};

    fn port(s: &str) -> u16 {
        capture_port(&s.parse::<SocketAddr>().unwrap().into())
    }

    #[test]
    fn stays_in_the_range_and_is_stable() {
        for last in 0..=255 {
            for p in [1, 80, 443, 8080, 65535] {
                let at = std::format!("10.0.0.{last}:{p}");
                assert!(CAPTURE_PORTS.contains(&port(&at)));
                assert_eq!(port(&at), port(&at));
            }
        }
    }

    #[test]
    fn neighbours_rarely_meet() {
        let v4: HashSet<u16> = (0..250).map(|i| port(&std::format!("10.96.0.{i}:80"))).collect();
        let v6: HashSet<u16> = (0..250).map(|i| port(&std::format!("[fd00::{i:x}]:80"))).collect();
        assert!(v4.len() > 200, "{}", v4.len());
        assert!(v6.len() > 200, "{}", v6.len());
    }
}
