//! Processor time and memory of processes, as /proc tells them.

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::{collections::BTreeMap, fs};

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// What is resident now, pages of files counted once: processes of one program share those.
    pub resident: f64,
    /// Of that, what no file backs (`RssAnon` and `RssShmem`): heaps and stacks.
    pub anonymous: f64,
    /// What each process has resident (`VmRSS`), added up: pages that they share count for each of them.
    pub summed: f64,
    /// The most that each had resident at any time (`VmHWM`), added up.
    pub peak: f64,
}

/// Seconds of processor time that the process, its threads and its children have used so far.
pub fn seconds(process: u32) -> Result<f64> {
    let hertz = sysconf(SysconfVar::CLK_TCK)?.context("the kernel does not tell its clock's ticks")?;
    let mut ticks = 0;
    for id in family(process)? {
        // A child may be gone by now.
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        ticks += stat_ticks(&stat).with_context(|| format!("/proc/{id}/stat reads {stat:?}"))?;
    }
    Ok(ticks as f64 / hertz as f64)
}

/// The memory of the process and its children together. They are taken to run the same program, so that the largest share
/// of its file that one of them has touched stands for all. The proportional set size (`Pss`) would be smaller: it also
/// divides by the agents of other nodes, which share the file only here, where all nodes are one machine.
pub fn memory(process: u32) -> Result<Memory> {
    let mut all = Memory { resident: 0.0, anonymous: 0.0, summed: 0.0, peak: 0.0 };
    let mut of_files: f64 = 0.0;
    for id in family(process)? {
        let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else { continue };
        let field =
            |name| kibibytes(&status, name).with_context(|| format!("/proc/{id}/status has no {name}"));
        all.anonymous += (field("RssAnon:")? + field("RssShmem:")?) * 1024.0;
        all.summed += field("VmRSS:")? * 1024.0;
        all.peak += field("VmHWM:")? * 1024.0;
        of_files = of_files.max(field("RssFile:")? * 1024.0);
    }
    all.resident = all.anonymous + of_files;
    Ok(all)
}

/// The process and all that descend from it.
fn family(process: u32) -> Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = after_name(&stat).and_then(|mut fields| fields.nth(1)?.parse().ok()) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut family = vec![process];
    let mut next = 0;
    while let Some(member) = family.get(next) {
        family.extend(children.remove(member).unwrap_or_default());
        next += 1;
    }
    Ok(family)
}

/// The fields of a stat line from the third on: the name before them may hold anything (proc_pid_stat(5)).
fn after_name(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

/// User and system time, fields 14 and 15.
fn stat_ticks(stat: &str) -> Option<u64> {
    let mut times = after_name(stat)?.skip(11);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

fn kibibytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 4 0 100 1000 10";
        assert_eq!(stat_ticks(stat), Some(300));
        assert_eq!(after_name(stat).unwrap().nth(1), Some("1"));
    }

    #[test]
    fn this_process_has_memory_and_a_peak_above_it() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.anonymous > 0.0 && memory.resident > memory.anonymous, "{memory:?}");
        assert!(memory.summed >= memory.resident && memory.peak >= memory.summed, "{memory:?}");
        assert!(seconds(std::process::id()).unwrap() >= 0.0);
    }
}
