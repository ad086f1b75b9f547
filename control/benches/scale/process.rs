//! Parts of the measurement as processes of their own, and what they use.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

/// A part; killed when dropped.
pub struct Child {
    child: std::process::Child,
    said: BufReader<ChildStdout>,
    ear: ChildStdin,
}

/// What a process used so far.
#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub memory: u64,
    pub most: u64,
}

impl Child {
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (said, ear) = (BufReader::new(child.stdout.take().unwrap()), child.stdin.take().unwrap());
        Self { child, said, ear }
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.said.read_line(&mut line).unwrap() > 0, "a part of the measurement ended");
        line.trim().to_owned()
    }

    /// Tells it something.
    pub fn say(&mut self, text: &str) {
        writeln!(self.ear, "{text}").unwrap();
    }

    /// What it used so far.
    pub fn usage(&self) -> Usage {
        let file = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap();
        let stat = file("stat");
        // The name may hold anything but comes first, in parentheses; user and system time are the 14th and 15th field.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = file("status");
        let kib = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
        };
        // A tick is a hundredth of a second on Linux.
        Usage { cpu: Duration::from_millis(ticks * 10), memory: kib("VmRSS:"), most: kib("VmHWM:") }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
