//! The table of indices (whitepaper 5.4): what a message's receiver index stands for.
//!
//! An index names a handshake or a keypair to the other side. It is random over all 32 bits, so that it tells an observer
//! nothing, neither how many peers there are nor that two sessions belong together.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rand_core::CryptoRng;

/// Indices in use, each with its `T`.
pub struct IndexTable<T> {
    entries: HashMap<u32, T>,
}

impl<T> Default for IndexTable<T> {
    fn default() -> Self {
        IndexTable { entries: HashMap::new() }
    }
}

impl<T> IndexTable<T> {
    /// Gives `value` a fresh random index.
    pub fn insert(&mut self, value: T, rng: &mut dyn CryptoRng) -> u32 {
        loop {
            let index = rng.next_u32();
            if let Entry::Vacant(entry) = self.entries.entry(index) {
                entry.insert(value);
                return index;
            }
        }
    }

    /// What `index` stands for.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.entries.get(&index)
    }

    /// Lets `index`, which is in use, stand for something else: a handshake became a session. Returns false and changes
    /// nothing when it is not in use (any more).
    pub fn replace(&mut self, index: u32, value: T) -> bool {
        match self.entries.get_mut(&index) {
            Some(entry) => {
                *entry = value;
                true
            }
            None => false,
        }
    }

    /// Frees `index`.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        self.entries.remove(&index)
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is in use.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
