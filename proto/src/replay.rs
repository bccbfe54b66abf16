//! The sliding window against replayed transport data (whitepaper 5.4.6), after RFC 6479: a ring of 64-bit words, so that
//! moving the window shifts nothing.

use crate::limits::REJECT_AFTER_MESSAGES;

/// Bits of the ring.
const BITS: u64 = 8192;
const WORDS: usize = (BITS / 64) as usize;
/// How far behind the greatest counter a message may be: one word of the ring is always being refilled.
pub const WINDOW: u64 = BITS - 64;

/// Which counters of one key have been received.
pub struct ReplayWindow {
    /// The greatest counter received plus one, zero when there is none.
    next: u64,
    ring: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        ReplayWindow { next: 0, ring: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// Whether `counter` is new; if so, it is noted. Call it only for messages that the AEAD has authenticated.
    pub fn accept(&mut self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        // Counters are kept plus one, as the kernel does, so that zero can mean none.
        let theirs = counter + 1;
        if theirs + WINDOW < self.next {
            return false;
        }
        if theirs > self.next {
            self.clear_between(self.next / 64, theirs / 64);
            self.next = theirs;
        }
        let word = &mut self.ring[(theirs / 64) as usize % WORDS];
        let bit = 1 << (theirs % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn clear_between(&mut self, old: u64, new: u64) {
        for i in 1..=(new - old).min(WORDS as u64) {
            self.ring[(old + i) as usize % WORDS] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The rule itself: new, and not too far behind.
    #[derive(Default)]
    struct Naive {
        greatest: Option<u64>,
        seen: BTreeSet<u64>,
    }

    impl Naive {
        fn accept(&mut self, counter: u64) -> bool {
            if counter >= REJECT_AFTER_MESSAGES {
                return false;
            }
            let too_old = self.greatest.is_some_and(|greatest| counter + WINDOW < greatest);
            if too_old || !self.seen.insert(counter) {
                return false;
            }
            self.greatest = self.greatest.max(Some(counter));
            true
        }
    }

    /// Anything, and often the window's edge.
    fn step() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..20_000, WINDOW - 70..WINDOW + 70]
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_set(
            start in prop_oneof![Just(0u64), Just(u64::from(u32::MAX) - 4000), Just(REJECT_AFTER_MESSAGES - 9000)],
            steps in proptest::collection::vec((step(), any::<bool>()), 1..400),
        ) {
            let mut window = ReplayWindow::default();
            let mut naive = Naive::default();
            let mut base = start;
            for (step, forward) in steps {
                let counter = if forward { base.saturating_add(step / 16) } else { base.saturating_sub(step) };
                base = base.max(counter);
                prop_assert_eq!(window.accept(counter), naive.accept(counter), "counter {}", counter);
            }
        }
    }

    #[test]
    fn edges() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(0) && !window.accept(0));
        assert!(window.accept(WINDOW) && !window.accept(WINDOW) && window.accept(1));
        assert!(window.accept(WINDOW + 1));
        assert!(!window.accept(0) && !window.accept(1));
        assert!(window.accept(2 * WINDOW));
        assert!(!window.accept(WINDOW - 1), "one past the window");
    }

    /// boringtun accepts counter 2^64 - 1; here a counter at the limit is dropped before it moves anything.
    #[test]
    fn a_counter_at_the_limit_does_not_move_the_window() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(7));
        for counter in [REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, u64::MAX - 1, u64::MAX] {
            assert!(!window.accept(counter));
        }
        assert!(window.accept(8) && window.accept(6));
        assert!(window.accept(REJECT_AFTER_MESSAGES - 1));
        assert!(!window.accept(9));
    }

    /// GotaTun 0.4.1, boringtun 0.7.1: on 32-bit machines the counter ended at 2^32.
    #[test]
    fn passes_two_to_the_thirty_two() {
        let mut window = ReplayWindow::default();
        let counters: Vec<u64> = (0..200).map(|i| (1u64 << 32) - 100 + i).collect();
        assert!(counters.iter().all(|c| window.accept(*c)));
        assert!(counters.iter().all(|c| !window.accept(*c)));
    }
}
