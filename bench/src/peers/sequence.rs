//! Datagrams numbered from zero: which arrived, which twice, which after a later one.

/// What arrived of one flow.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// A bit for each number.
    seen: Vec<u64>,
    /// The greatest number that arrived, plus one.
    next: u64,
    arrived: u64,
    reordered: u64,
    duplicates: u64,
}

impl Sequence {
    /// Numbers from here on are no flow's: nobody sends that many, and a bit for each must fit into memory.
    pub const LIMIT: u64 = 1 << 30;

    /// A datagram with this number arrived, below [`Sequence::LIMIT`]; others are not counted.
    pub fn arrive(&mut self, number: u64) {
        if number >= Self::LIMIT {
            return;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        self.seen[word] |= bit;
        self.arrived += 1;
        self.reordered += u64::from(number < self.next);
        self.next = self.next.max(number + 1);
    }

    /// The greatest number that arrived, plus one.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Different numbers that arrived.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Those that arrived after a greater one.
    #[must_use]
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Arrivals of numbers that had arrived before.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: &[u64]) -> (u64, u64, u64, u64) {
        let mut sequence = Sequence::default();
        numbers.iter().for_each(|&number| sequence.arrive(number));
        (sequence.arrived(), sequence.reordered(), sequence.duplicates(), sequence.next())
    }

    #[test]
    fn gaps_are_losses_and_nothing_else() {
        assert_eq!(after(&[]), (0, 0, 0, 0));
        assert_eq!(after(&[0, 1, 2]), (3, 0, 0, 3));
        assert_eq!(after(&[5, 70, 1000]), (3, 0, 0, 1001));
    }

    #[test]
    fn every_late_one_counts_once() {
        assert_eq!(after(&[0, 3, 1, 2, 4]), (5, 2, 0, 5));
        assert_eq!(after(&[9, 8, 7]), (3, 2, 0, 10));
    }

    #[test]
    fn repetitions_are_neither_arrivals_nor_late() {
        assert_eq!(after(&[0, 1, 1, 0, 64, 64]), (3, 0, 3, 65));
    }

    #[test]
    fn absurd_numbers_take_no_memory() {
        assert_eq!(after(&[u64::MAX, Sequence::LIMIT]), (0, 0, 0, 0));
    }

    /// Against a model that keeps the whole history.
    #[test]
    fn agrees_with_a_list() {
        let mut state = 1_u32;
        let numbers: Vec<u64> = (0..2_000)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                i / 2 + u64::from(state >> 24)
            })
            .collect();
        let (mut history, mut reordered) = (Vec::new(), 0);
        for &number in &numbers {
            if !history.contains(&number) {
                reordered += u64::from(history.iter().any(|&earlier| earlier > number));
                history.push(number);
            }
        }
        let arrived = history.len() as u64;
        let greatest = numbers.iter().max().unwrap();
        assert_eq!(after(&numbers), (arrived, reordered, 2_000 - arrived, greatest + 1));
    }
}
