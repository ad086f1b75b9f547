//! The kernel's programs and maps, as the admin interface tells them.

use crate::{admin::proto, kernel::Stats};
use std::path::Path;

/// What is loaded and pinned below `pin_dir`.
pub fn bpf(stats: &Stats, pin_dir: &Path) -> proto::Bpf {
    proto::Bpf {
        loaded: true,
        error: String::new(),
        pin_dir: pin_dir.display().to_string(),
        abi_version: weft_ebpf_abi::VERSION,
        programs: (stats.programs.iter())
            .map(|p| proto::BpfProgram {
                name: p.name.clone(),
                id: p.id,
                pod: p.pod,
                size: p.size,
                verified: p.verified,
            })
            .collect(),
        maps: (stats.maps.iter())
            .map(|m| proto::BpfMap {
                name: m.name.to_owned(),
                kind: m.kind.clone(),
                entries: m.entries.map(|n| n as u64),
                capacity: m.max_entries.into(),
                key_size: m.key_size,
                value_size: m.value_size,
            })
            .collect(),
        counters: (stats.counters.iter())
            .map(|(name, value)| proto::BpfCounter { name: (*name).to_owned(), value: *value })
            .collect(),
    }
}
