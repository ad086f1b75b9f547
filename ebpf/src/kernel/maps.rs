//! The maps. All are pinned by the agent, under these names.

use super::storage::Inherited;
use aya_ebpf::{
    btf_maps::SkStorage,
    helpers::generated::{bpf_get_prandom_u32, bpf_sk_storage_delete, bpf_sk_storage_get},
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SockHash},
};
use core::ffi::c_void;
use weft_ebpf::World;
use weft_ebpf_abi::{
    Addr, Arrival, ArrivalKey, Backend, BackendKey, Config, Destination, Endpoint, ListenerKey, PairKey,
    PlainKey, Service, SocketState, Stat, VAULT_CHUNKS, VaultChunk, Workload, config,
};

/// BPF_F_NO_PREALLOC: memory for what is there, not for what could be.
const SPARSE: u32 = 1;

#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
/// Processes whose connections are the agent's own, by thread group.
#[map]
pub static AGENTS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);
#[map]
pub static WORKLOADS: HashMap<u64, Workload> = HashMap::with_max_entries(4096, SPARSE);
/// Pods of the node that are known not to take part, by cookie; the value says nothing.
#[map]
pub static OUTSIDE: HashMap<u64, u32> = HashMap::with_max_entries(1 << 14, SPARSE);
#[map]
pub static DESTINATIONS: HashMap<Addr, Destination> = HashMap::with_max_entries(1 << 19, SPARSE);
#[map]
pub static SERVICES: HashMap<Endpoint, Service> = HashMap::with_max_entries(1 << 17, SPARSE);
#[map]
pub static BACKENDS: HashMap<BackendKey, Backend> = HashMap::with_max_entries(1 << 17, SPARSE);
#[map]
pub static PAIRS: HashMap<PairKey, u32> = HashMap::with_max_entries(1 << 19, SPARSE);
#[map]
pub static PLAIN: HashMap<PlainKey, u32> = HashMap::with_max_entries(1 << 16, SPARSE);
#[map]
pub static ARRIVALS: LruHashMap<ArrivalKey, Arrival> = LruHashMap::with_max_entries(1 << 15, 0);
#[map]
pub static LISTENERS: SockHash<ListenerKey> = SockHash::with_max_entries(1 << 16, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 19, 0);
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(16, 0);
/// The agent's own: see its `kernel/vault.rs`.
#[map]
pub static VAULT: HashMap<u32, VaultChunk> = HashMap::with_max_entries(VAULT_CHUNKS, SPARSE);
/// What a client's socket carries along; unlike an entry of a hash map it cannot be evicted, and ends with the socket.
#[btf_map]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// On the agent's listeners in pods, and on what they accept: those are not the application's.
#[btf_map]
pub static OURS: Inherited<u32> = Inherited::new();

/// BPF_SK_STORAGE_GET_F_CREATE.
const CREATE: u64 = 1;

fn sockets() -> *mut c_void {
    core::ptr::from_ref(&SOCKETS).cast_mut().cast()
}

/// The state that a socket carries, where it has one.
///
/// # Safety
/// `socket` is a context's socket pointer that the program has found not to be null.
#[inline(always)]
pub unsafe fn state_of<'a>(socket: *mut c_void) -> Option<&'a mut SocketState> {
    // SAFETY: the helper answers null or a value of the map's type, which lives as long as the program runs.
    unsafe { bpf_sk_storage_get(sockets(), socket, core::ptr::null_mut(), 0).cast::<SocketState>().as_mut() }
}

/// Whether the agent accepted this socket.
///
/// # Safety
/// As for [`state_of`].
#[inline(always)]
pub unsafe fn is_ours(socket: *mut c_void) -> bool {
    let map = core::ptr::from_ref(&OURS).cast_mut().cast();
    // SAFETY: the helper answers null or a value of the map's type.
    !unsafe { bpf_sk_storage_get(map, socket, core::ptr::null_mut(), 0) }.is_null()
}

/// Whether the pod's port takes whoever comes from outside, without a tunnel.
#[inline(always)]
pub fn is_open(cookie: u64, port: u16) -> bool {
    // SAFETY: copied at once.
    weft_ebpf::is_open(port, |port| unsafe { PLAIN.get(&PlainKey { cookie, port, pad: 0 }) }.copied())
}

/// Gives a socket its state, in place of an earlier one. False when memory is short.
///
/// # Safety
/// As for [`state_of`].
#[inline(always)]
pub unsafe fn set_state(socket: *mut c_void, mut state: SocketState) -> bool {
    // SAFETY: as above; `state` is what a new entry is copied from.
    unsafe {
        let initial = core::ptr::from_mut(&mut state).cast();
        let held = bpf_sk_storage_get(sockets(), socket, initial, CREATE).cast::<SocketState>();
        match held.as_mut() {
            Some(held) => {
                *held = state;
                true
            }
            None => false,
        }
    }
}

/// Takes a socket's state away, if it has one.
///
/// # Safety
/// As for [`state_of`].
#[inline(always)]
pub unsafe fn clear_state(socket: *mut c_void) {
    // SAFETY: the helper takes any socket; that there was nothing to delete is no error here.
    let _ = unsafe { bpf_sk_storage_delete(sockets(), socket) };
}

/// Counts one.
#[inline(always)]
pub fn count(stat: Stat) {
    if let Some(counter) = STATS.get_ptr_mut(stat as u32) {
        // SAFETY: this CPU's own counter; programs of one CPU do not interleave on it in a way that matters to a count.
        unsafe { *counter += 1 };
    }
}

/// The maps, as the pure decisions see them.
pub struct Maps;

impl World for Maps {
    #[inline(always)]
    fn destination(&self, addr: &Addr) -> Option<Destination> {
        // SAFETY: copied at once; a torn read of a value under update is at worst the old or the new decision.
        unsafe { DESTINATIONS.get(addr) }.copied()
    }
    #[inline(always)]
    fn service(&self, at: &Endpoint) -> Option<Service> {
        // SAFETY: as above.
        unsafe { SERVICES.get(at) }.copied()
    }
    #[inline(always)]
    fn backend(&self, key: &BackendKey) -> Option<Backend> {
        // SAFETY: as above.
        unsafe { BACKENDS.get(key) }.copied()
    }
    #[inline(always)]
    fn pair(&self, key: &PairKey) -> Option<u32> {
        // SAFETY: as above.
        unsafe { PAIRS.get(key) }.copied()
    }
    #[inline(always)]
    fn is_incomplete(&self) -> bool {
        CONFIG.get(0).is_some_and(|c| c.flags & config::INCOMPLETE != 0)
    }
    #[inline(always)]
    fn changed_ns(&self) -> u64 {
        CONFIG.get(0).map_or(u64::MAX, |c| c.changed_ns)
    }
    #[inline(always)]
    fn flags(&self, cookie: u64) -> Option<u32> {
        // SAFETY: one field, read at once.
        unsafe { WORKLOADS.get(&cookie) }.map(|w| w.flags)
    }
    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes nothing and cannot fail.
        unsafe { bpf_get_prandom_u32() }
    }
}
