//! Chance, as a seed has it.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // Not the engines' sequence.
        Dice(ChaCha8Rng::seed_from_u64(!seed))
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end.max(1) as u64) as usize
    }

    /// A number of `first..=last`.
    pub(super) fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// True in `count` of a thousand.
    pub(super) fn per_mille(&mut self, count: usize) -> bool {
        self.below(1000) < count
    }

    /// True in one of `count`.
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(super) fn duration(&mut self, first: Duration, last: Duration) -> Duration {
        let span = (last - first).as_nanos() as u64;
        first + Duration::from_nanos(self.0.next_u64() % (span + 1))
    }

    pub(super) fn secs(&mut self, first: u64, last: u64) -> Duration {
        self.duration(Duration::from_secs(first), Duration::from_secs(last))
    }

    pub(super) fn millis(&mut self, first: u64, last: u64) -> Duration {
        self.duration(Duration::from_millis(first), Duration::from_millis(last))
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
