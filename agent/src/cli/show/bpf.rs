//! `bpf` for people.

use super::{Show, or_dash, units};
use crate::{
    admin::proto::{Bpf, BpfCounter, BpfMap, BpfProgram},
    cli::output::{Row, table},
};

impl Row for BpfProgram {
    const HEAD: &'static [&'static str] = &["PROGRAM", "ID", "POD COOKIE", "CODE", "VERIFIED"];
    const EMPTY: &'static str = "no programs are attached";

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.id.to_string(),
            or_dash(self.pod.map(|p| p.to_string()).unwrap_or_default()),
            units::bytes(self.size.into()),
            or_dash(self.verified.map(|v| format!("{v} instructions")).unwrap_or_default()),
        ]
    }
}

impl Row for BpfMap {
    const HEAD: &'static [&'static str] = &["MAP", "KIND", "ENTRIES", "CAPACITY", "KEY", "VALUE"];
    const EMPTY: &'static str = "no maps";

    fn cells(&self) -> Vec<String> {
        let capacity = match (self.kind.as_str(), self.capacity) {
            ("ringbuf", n) => units::bytes(n),
            (_, 0) => "-".to_owned(),
            (_, n) => n.to_string(),
        };
        vec![
            self.name.clone(),
            self.kind.clone(),
            or_dash(self.entries.map(|n| n.to_string()).unwrap_or_default()),
            capacity,
            units::bytes(self.key_size.into()),
            units::bytes(self.value_size.into()),
        ]
    }
}

impl Row for BpfCounter {
    const HEAD: &'static [&'static str] = &["COUNTER", "SINCE LOADED"];
    const EMPTY: &'static str = "no counters";

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.value.to_string()]
    }
}

impl Show for Bpf {
    fn show(&self) -> String {
        if !self.loaded {
            return format!("no kernel programs are loaded: {}\n", self.error);
        }
        let parts = [table(&self.programs), table(&self.maps), table(&self.counters)];
        format!("Pinned in {}, layout version {}\n\n{}", self.pin_dir, self.abi_version, parts.join("\n"))
    }
}
