//! What counts as flat. At rest, an engine holds in the last quarter of the time no more than it did in the second: one that
//! leaks goes on, and one that only warms up is through with it by then.
//!
//! Of memory the medians count: now and then an engine has not given back yet what was asked for a moment ago.

use super::vitals::{Held, Sample};

/// What memory may grow by in KiB, or in the parts of a hundred: whichever is more.
///
/// What an allocator keeps depends on which small block happens to lie at the end of its heap: it goes up and down by this much
/// from rest to rest. In ten minutes half a million peers come and go and some thousands make sessions, so that ten bytes left
/// behind by each of those, or half a session by each of these, are more.
const BAND_KIB: u64 = 2048;
const BAND_PERCENT: u64 = 2;
/// Rests that are needed to tell.
const RESTS: usize = 4;

/// Something that must not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In KiB.
    Memory,
    /// By number.
    Descriptors,
    /// By number.
    Threads,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Memory, Kind::Descriptors, Kind::Threads];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Memory => "memory (KiB)",
            Kind::Descriptors => "descriptors",
            Kind::Threads => "threads",
        }
    }

    /// How much there is.
    pub fn of(self, held: &Held) -> u64 {
        match self {
            Kind::Memory => held.rss,
            Kind::Descriptors => held.fds,
            Kind::Threads => held.threads,
        }
    }

    /// What counts of some rests.
    fn level(self, values: &[u64]) -> u64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let middle = sorted.get(sorted.len() / 2);
        let level = if self == Kind::Memory { middle } else { sorted.last() };
        level.copied().unwrap_or(0)
    }

    fn band(self, before: u64) -> u64 {
        match self {
            Kind::Memory => BAND_KIB.max(before * BAND_PERCENT / 100),
            Kind::Descriptors | Kind::Threads => 0,
        }
    }
}

/// How something went with one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// The first rest.
    pub first: u64,
    /// The level in the second quarter of the rests: the median of memory, the most of others.
    pub second_quarter: u64,
    /// That in the last quarter.
    pub last_quarter: u64,
    /// The most ever.
    pub most: u64,
    /// By how much it grew in an hour, by the straight line that fits the last four fifths best.
    pub per_hour: f64,
    /// Whether that is flat.
    pub is_flat: bool,
}

/// How `kind` went with the process of this number; `None` when the time was too short to tell.
pub fn course(rests: &[Sample], process: usize, kind: Kind) -> Option<Course> {
    let values: Vec<u64> = rests.iter().map(|sample| kind.of(&sample.held[process])).collect();
    let quarter = values.len() / 4;
    if values.len() < RESTS {
        return None;
    }
    let second_quarter = kind.level(&values[quarter..2 * quarter]);
    let last_quarter = kind.level(&values[values.len() - quarter..]);
    let late = rests.len() / 5;
    let points = rests[late..].iter().zip(&values[late..]);
    let points: Vec<_> =
        points.map(|(sample, value)| (sample.at.as_secs_f64() / 3600.0, *value as f64)).collect();
    Some(Course {
        first: values[0],
        second_quarter,
        last_quarter,
        most: values.iter().copied().max().unwrap_or(0),
        per_hour: slope(&points),
        is_flat: last_quarter <= second_quarter + kind.band(second_quarter),
    })
}

/// Of the straight line that fits best (least squares).
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if variance == 0.0 { 0.0 } else { covariance / variance }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rests(values: &[u64]) -> Vec<Sample> {
        let sample = |(n, &value): (usize, &u64)| Sample {
            at: Duration::from_secs(36 * n as u64),
            held: vec![Held { rss: value, fds: value, threads: value, ..Held::default() }],
        };
        values.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn warming_up_is_flat_and_going_on_is_not() {
        let course = |values: &[u64], kind| course(&rests(values), 0, kind);
        let warm = [5_000, 9_000, 9_800, 10_000, 10_100, 10_050, 10_120, 10_080];
        assert!(course(&warm, Kind::Memory).unwrap().is_flat);
        assert!(!course(&warm, Kind::Descriptors).unwrap().is_flat, "of these, one more is too many");
        let leak = [10_000, 11_000, 12_000, 13_000, 14_000, 15_000, 16_000, 17_000];
        let grown = course(&leak, Kind::Memory).unwrap();
        assert!(!grown.is_flat);
        assert!((grown.per_hour - 100_000.0).abs() < 1.0, "{}", grown.per_hour);
        assert!(course(&[20; 8], Kind::Threads).unwrap().is_flat);
        let once =
            [10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 13_000];
        assert!(
            course(&once, Kind::Memory).unwrap().is_flat && !course(&once, Kind::Threads).unwrap().is_flat
        );
        assert_eq!(course(&[1, 2, 3], Kind::Memory), None);
    }
}
