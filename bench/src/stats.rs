//! Medians, spreads, percentiles and ratios of a few samples.

/// The middle of several samples and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Summary {
    /// Of at least one sample; `None` of none.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Summary> {
        let sorted = sorted(samples);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Summary { min, median: median_of_sorted(&sorted), max })
    }

    /// Of the ratios of `a` to `b`, taken sample by sample: what varies from round to round hits both alike. Pairs in
    /// which either is missing or `b` is zero do not count.
    #[must_use]
    pub fn of_ratios(a: &[Option<f64>], b: &[Option<f64>]) -> Option<Summary> {
        let ratios = a.iter().zip(b).filter_map(|pair| match pair {
            (Some(a), Some(b)) if *b != 0.0 => Some(a / b),
            _ => None,
        });
        Summary::of(&ratios.collect::<Vec<_>>())
    }
}

/// The arithmetic mean; `None` of no samples.
#[must_use]
pub fn mean(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

/// The smallest sample that at least `percent` of all do not exceed (the nearest rank); `None` of no samples.
#[must_use]
pub fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    sorted(samples).get(rank - 1).copied()
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        let of = |samples: &[f64]| Summary::of(samples).map(|s| (s.min, s.median, s.max));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(of(&[9.0, 1.0, 2.0]), Some((1.0, 2.0, 9.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some((1.0, 3.0, 9.0)));
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was twice as slow in the second round: the ratio of the medians would be 15/7.5, too, but that of
        // a round that one of them missed must not count.
        let a = [Some(20.0), Some(10.0), None, Some(5.0)];
        let b = [Some(10.0), Some(5.0), Some(1.0), Some(0.0)];
        assert_eq!(Summary::of_ratios(&a, &b), Some(Summary { min: 2.0, median: 2.0, max: 2.0 }));
        assert_eq!(Summary::of_ratios(&a[2..3], &b[2..3]), None);
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let percentiles = [0, 1, 50, 95, 100].map(|percent| percentile(&samples, percent).unwrap());
        assert_eq!(percentiles, [1.0, 1.0, 50.0, 95.0, 100.0]);
        assert_eq!(percentile(&[7.0], 95), Some(7.0));
        assert_eq!(percentile(&[], 95), None);
        assert_eq!(mean(&[1.0, 3.0]), Some(2.0));
    }
}
