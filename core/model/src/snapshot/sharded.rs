//! A hash map whose copies share what did not change.
//!
//! A snapshot of 100,000 workloads must not be copied whole for each of a thousand changes a second. The map is split
//! into shards behind `Arc`s: copying it copies pointers, writing to it copies the one shard that the key falls in.

use hashbrown::{Equivalent, HashMap};
use rustc_hash::{FxBuildHasher, FxHasher};
use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Enough that a shard of 100,000 entries stays near a hundred.
const SHARDS: usize = 1024;

/// A copy-on-write hash map. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Sharded<K, V> {
    /// Empty until the first insertion, so that an unused map costs nothing.
    shards: Arc<[Arc<Shard<K, V>>]>,
    len: usize,
}

/// Not std's map, as a key may be found by something that it does not hold as it is (see `keys.rs`).
type Shard<K, V> = HashMap<K, V, FxBuildHasher>;

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { shards: Arc::new([]), len: 0 }
    }
}

fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    // The map inside uses the hash's low and top bits; these are others.
    (hasher.finish() >> 24) as usize % SHARDS
}

impl<K: Clone + Eq + Hash, V: Clone> Sharded<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `key`.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        Some(self.entry(key)?.1)
    }

    /// The key that is like `key`, as it stands here.
    pub fn get_key<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&K> {
        Some(self.entry(key)?.0)
    }

    fn entry<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<(&K, &V)> {
        self.shards.get(if self.shards.is_empty() { 0 } else { shard_of(key) })?.get_key_value(key)
    }

    /// Puts `value` at `key`; what stood there before comes back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.shards.is_empty() {
            let empty: Arc<Shard<K, V>> = Arc::default();
            self.shards = (0..SHARDS).map(|_| empty.clone()).collect();
        }
        let shard = shard_of(&key);
        let old = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard]).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes the value at `key` out.
    pub fn remove<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        self.get(key)?;
        let old = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard_of(key)]).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// Every key, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.shards.iter().flat_map(|s| s.keys())
    }

    /// Every value, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|s| s.values())
    }
}

impl<K: Clone + Eq + Hash> Sharded<K, ()> {
    /// Puts `key` in the place of one that is like it.
    pub fn put(&mut self, key: K) {
        self.remove(&key);
        self.insert(key, ());
    }
}
