//! The program's own pages: what only the start needed is let go.
//!
//! Starting up (parsing options, loading kernel programs, handshakes with control) touches nearly all of the program, and
//! the kernel maps a neighbourhood of 64 KiB with every page that is touched. None of it leaves again unless memory is
//! short. What an agent goes on using is a small part, and comes back from the page cache at the first touch.
#![allow(unsafe_code)]

use std::{fs, io, ops::Range};

/// Lets go of all pages of files that this process maps for reading or running and has not changed; how many bytes were
/// resident. Nothing is lost: a page that is used again is mapped again, as it was when it was first used.
pub fn let_go() -> io::Result<usize> {
    let mut resident = 0;
    for mapping in untouched(&fs::read_to_string("/proc/self/smaps")?) {
        let length = mapping.range.end - mapping.range.start;
        // SAFETY: the range is a private mapping of a file, may not be written, and holds no page but the file's own, so
        // that every later access finds the same bytes. Such mappings (the program and its libraries) are never undone.
        let answer = unsafe { libc::madvise(mapping.range.start as *mut _, length, libc::MADV_DONTNEED) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        resident += mapping.resident;
    }
    Ok(resident)
}

/// A mapping of a file.
#[derive(Debug, PartialEq)]
struct Mapping {
    range: Range<usize>,
    /// Bytes.
    resident: usize,
}

/// The mappings in a text like /proc/self/smaps (proc_pid_smaps(5)) that only show what a file says.
fn untouched(smaps: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut last: Option<Mapping> = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        let kibibytes = || second.parse::<usize>().ok();
        match (first, &mut last) {
            ("Rss:", Some(mapping)) => mapping.resident = kibibytes().unwrap_or(0) * 1024,
            // Pages of its own: relocated, or written to by a debugger.
            ("Anonymous:", mapping) if kibibytes() != Some(0) => *mapping = None,
            // The last line of a mapping.
            ("VmFlags:", mapping) => found.extend(mapping.take()),
            _ if !first.ends_with(':') => last = head(first, second, words.nth(3)),
            _ => {}
        }
    }
    found
}

/// The first line of a mapping, if it is of a file, private, and may not be written.
fn head(range: &str, rights: &str, path: Option<&str>) -> Option<Mapping> {
    let is_file = path.is_some_and(|path| path.starts_with('/'));
    if !is_file || !matches!(rights, "r-xp" | "r--p") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(Mapping { range: address(start)?..address(end)?, resident: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_shows_a_file_as_it_is_is_let_go() {
        let smaps = "\
1000-3000 r-xp 00001000 fe:00 7 /usr/bin/weft-agent
Size:                  8 kB
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
3000-4000 r--p 00003000 fe:00 7 /usr/bin/weft-agent
Rss:                   4 kB
Anonymous:             4 kB
VmFlags: rd mr mw me ac
4000-5000 rw-p 00004000 fe:00 7 /usr/bin/weft-agent
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd wr mr mw me ac
5000-6000 r--s 00000000 00:0f 9 anon_inode:bpf-map
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr me ms
6000-7000 r-xp 00000000 00:00 0 [vdso]
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me de
";
        assert_eq!(untouched(smaps), [Mapping { range: 0x1000..0x3000, resident: 4096 }]);
        assert!(untouched("1000-3000 r-xp\nnonsense\n\nVmFlags:\n").is_empty());
    }

    #[test]
    fn the_program_runs_on() {
        assert!(let_go().unwrap() > 0);
        assert_eq!("still here".to_uppercase(), "STILL HERE");
    }
}
