//! Figures for `weft-agent bpf`.

use super::{
    Kernel, KernelError,
    maps::{self, NAMES, Table},
    pins::{self, Pins},
};
use aya::{
    maps::{MapData, MapInfo, MapType, PerCpuArray},
    programs::{
        links::{FdLink, PinnedLink},
        loaded_programs,
    },
};
use rustc_hash::FxHashMap;
use weft_ebpf_abi::{self as abi, Plain, STATS};

/// One map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStat {
    /// Its name.
    pub name: &'static str,
    /// What it is to the kernel.
    pub kind: String,
    /// Entries it may hold (bytes, for the ring buffer; 0 for one that grows with its sockets).
    pub max_entries: u32,
    /// Entries it holds, where they can be counted.
    pub entries: Option<usize>,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
}

/// One attached program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStat {
    /// Its name, as long as the kernel keeps it.
    pub name: String,
    /// The kernel's number for it.
    pub id: u32,
    /// The cookie of the pod, for a program of a pod.
    pub pod: Option<u64>,
    /// Bytes after translation to machine code.
    pub size: u32,
    /// Instructions that the verifier looked at.
    pub verified: Option<u32>,
}

/// Maps, programs and counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The maps.
    pub maps: Vec<MapStat>,
    /// The programs.
    pub programs: Vec<ProgramStat>,
    /// The counters, by name, since the maps were made. The ones that end in `_lost` are drops.
    pub counters: Vec<(&'static str, u64)>,
}

impl Kernel {
    /// The figures of this instant. Walks the smaller maps: not for the data path.
    pub fn stats(&self) -> Result<Stats, KernelError> {
        let counters: PerCpuArray<MapData, u64> = maps::open(&self.pins, "STATS")?;
        let mut stats = Stats::default();
        for (stat, name) in STATS {
            let cpus = counters.get(&(stat as u32), 0).map_err(KernelError::map("STATS"))?;
            stats.counters.push((name, cpus.iter().sum()));
        }
        for &name in NAMES {
            let info = MapInfo::from_pin(self.pins.map(name)).map_err(KernelError::map(name))?;
            stats.maps.push(MapStat {
                name,
                kind: kind_of(&info),
                max_entries: info.max_entries(),
                entries: match self.reconciler.entries(name) {
                    Some(entries) => Some(entries),
                    None => entries_of(&self.pins, name)?,
                },
                key_size: info.key_size(),
                value_size: info.value_size(),
            });
        }
        stats.programs = programs(&self.pins)?;
        Ok(stats)
    }
}

fn kind_of(info: &MapInfo) -> String {
    let kind = match info.map_type() {
        Ok(MapType::Array) => "array",
        Ok(MapType::Hash) => "hash",
        Ok(MapType::LruHash) => "lru_hash",
        Ok(MapType::PerCpuArray) => "percpu_array",
        Ok(MapType::RingBuf) => "ringbuf",
        Ok(MapType::SkStorage) => "sk_storage",
        Ok(MapType::SockHash) => "sockhash",
        Ok(other) => return format!("{other:?}"),
        Err(_) => "unknown",
    };
    kind.to_owned()
}

fn entries_of(pins: &Pins, name: &'static str) -> Result<Option<usize>, KernelError> {
    fn count<K: Plain, V: Plain>(pins: &Pins, name: &'static str) -> Result<Option<usize>, KernelError> {
        Ok(Some(Table::<K, V>::open(pins, name)?.entries().count()))
    }
    match name {
        "AGENTS" => count::<u32, u32>(pins, name),
        "OUTSIDE" => count::<u64, u32>(pins, name),
        "WORKLOADS" => count::<u64, abi::Workload>(pins, name),
        "ARRIVALS" => count::<abi::ArrivalKey, abi::Arrival>(pins, name),
        _ => Ok(None),
    }
}

/// The programs behind the pinned links, the pods' last.
fn programs(pins: &Pins) -> Result<Vec<ProgramStat>, KernelError> {
    let mut attached = FxHashMap::default();
    for dir in [pins.links(), pins.pods()] {
        for path in pins::list(&dir)? {
            // A link whose namespace or cgroup is gone tells nothing any more.
            let Ok(info) = PinnedLink::from_pin(&path).and_then(|link| FdLink::from(link).info()) else {
                continue;
            };
            let pod = path.file_name().and_then(|n| n.to_str()?.parse().ok());
            attached.insert(info.program_id(), pod);
        }
    }
    let mut found: Vec<_> = loaded_programs()
        .filter_map(|info| {
            let info = info.ok()?;
            let pod = *attached.get(&info.id())?;
            let name = info.name_as_str().unwrap_or_default().to_owned();
            let verified = info.verified_instruction_count();
            Some(ProgramStat { name, id: info.id(), pod, size: info.size_jitted(), verified })
        })
        .collect();
    found.sort_by(|a, b| (a.pod, &a.name).cmp(&(b.pod, &b.name)));
    Ok(found)
}
