//! Whether the machine does other work: a figure taken beside a compiler says little.

use anyhow::{Context, Result};
use std::{fs, thread, time::Duration};

/// How long the machine is watched.
const WATCH: Duration = Duration::from_millis(500);

/// The share of the machine's processors that is busy while nothing is being measured, 0 to 1.
pub fn busy_share() -> Result<f64> {
    let read =
        || ticks(&fs::read_to_string("/proc/stat")?).context("/proc/stat has no line of all processors");
    let (busy_before, all_before) = read()?;
    thread::sleep(WATCH);
    let (busy, all) = read()?;
    Ok((busy - busy_before) as f64 / (all - all_before).max(1) as f64)
}

/// Busy and all ticks since boot, from the first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, …
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).take(8).collect();
    let idle = fields.get(3)? + fields.get(4)?;
    let all = fields.iter().sum::<u64>();
    Some((all - idle, all))
}

#[cfg(test)]
mod tests {
    #[test]
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  100 5 45 800 40 0 10 0 0 0\ncpu0 1 2 3\n";
        assert_eq!(super::ticks(stat), Some((160, 1000)));
        assert_eq!(super::ticks("intr 1"), None);
    }
}
