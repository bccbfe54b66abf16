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

#[cfg(test)]
mod tests {
    use super::*;

    /// The first audit of GotaTun, 3.2: indices that count up tell an observer how many peers there are. (boringtun and
    /// NepTUN draw them from a shift register.)
    #[test]
    fn indices_are_random_over_all_bits() {
        let mut rng = crate::testing::rng(1);
        let mut table = IndexTable::default();
        let indices: alloc::vec::Vec<u32> = (0..1000).map(|value| table.insert(value, &mut rng)).collect();
        for bit in 0..32 {
            let set = indices.iter().filter(|index| **index >> bit & 1 == 1).count();
            assert!((400..600).contains(&set), "bit {bit} is set in {set} of 1000");
        }
        let steps = |count: u32| indices.windows(2).filter(|w| w[1].wrapping_sub(w[0]) == count).count();
        assert_eq!((0..256).map(steps).sum::<usize>(), 0, "none follows another");
        assert_eq!(table.len(), 1000, "each is in use once");
        assert_eq!(table.remove(indices[7]), Some(7));
        assert_eq!((table.get(indices[7]), table.get(indices[8])), (None, Some(&8)));
        assert!(!table.replace(indices[7], 9), "what was freed stays free");
    }

    /// A generator that says each number twice.
    struct Stutter(u32);

    impl rand_core::TryRng for Stutter {
        type Error = core::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            self.0 += 1;
            Ok(self.0 / 2)
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.try_next_u32().map(u64::from)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.fill(0);
            Ok(())
        }
    }

    impl rand_core::TryCryptoRng for Stutter {}

    #[test]
    fn an_index_in_use_is_not_given_out_again() {
        let (mut table, mut rng) = (IndexTable::default(), Stutter(1));
        let indices = [(); 4].map(|()| table.insert((), &mut rng));
        assert_eq!(indices, [1, 2, 3, 4]);
    }
}
