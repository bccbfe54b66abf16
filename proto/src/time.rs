//! Time as the protocol sees it: a clock that counts through suspend, and TAI64N timestamps.

use core::time::Duration;

/// A moment on the device's monotonic clock, in nanoseconds. The clock should count while the machine sleeps (on Linux
/// `CLOCK_BOOTTIME`), so that a laptop that wakes rekeys at once. A clock that goes backwards delays things; it breaks
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero when the clock went backwards.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whether `age` has passed since `birth`.
    pub fn has_reached(self, birth: Instant, age: Duration) -> bool {
        self >= birth + age
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, by: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A TAI64N timestamp (<https://cr.yp.to/libtai/tai64.html>): 8 bytes of seconds and 4 of nanoseconds, big-endian, so
/// that byte order is time order. An initiation carries one (whitepaper 5.4.2); a responder takes only greater ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Tai64n([u8; 12]);

impl Tai64n {
    /// Nanoseconds are rounded down to a multiple of this, 2^24: about 17 ms, the largest power of two that still tells
    /// apart [`INITIATIONS_PER_SECOND`](crate::limits::INITIATIONS_PER_SECOND). A precise clock would be a side channel.
    const GRANULE: u32 = 1 << 24;

    /// The timestamp of `seconds` and `nanos` since the Unix epoch, rounded.
    pub fn from_unix(seconds: u64, nanos: u32) -> Self {
        Self::build(seconds.wrapping_add(0x4000_0000_0000_000a), nanos & !(Self::GRANULE - 1))
    }

    /// The timestamp with these bytes.
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        Tai64n(bytes)
    }

    /// The bytes that go on the wire.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// How much later than `earlier` it is; zero when it is not.
    pub fn since(&self, earlier: &Tai64n) -> Duration {
        let nanos = |(seconds, nanos): (u64, u32)| u128::from(seconds) * 1_000_000_000 + u128::from(nanos);
        let nanos = nanos(self.split()).saturating_sub(nanos(earlier.split()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The next timestamp that differs after rounding.
    pub(crate) fn successor(self) -> Self {
        let (seconds, nanos) = self.split();
        match nanos.saturating_add(Self::GRANULE) {
            next if next < 1_000_000_000 => Self::build(seconds, next),
            _ => Self::build(seconds.wrapping_add(1), 0),
        }
    }

    fn build(seconds: u64, nanos: u32) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Tai64n(bytes)
    }

    fn split(self) -> (u64, u32) {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n @ ..] = self.0;
        (u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]), u32::from_be_bytes(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backwards_clock_gives_zero_and_no_panic() {
        let (early, late) = (Instant::from_nanos(5), Instant::from_nanos(9));
        assert_eq!(early.since(late), Duration::ZERO);
        assert!(!early.has_reached(late, Duration::from_nanos(1)));
        assert!(Instant::from_nanos(u64::MAX) + Duration::MAX == Instant::from_nanos(u64::MAX));
    }

    #[test]
    fn tai64n_is_rounded_and_ordered() {
        let a = Tai64n::from_unix(1_600_000_000, 123_456_789);
        assert_eq!(a.as_bytes()[..8], (0x4000_0000_0000_000a_u64 + 1_600_000_000).to_be_bytes());
        assert_eq!(a.split().1 % (1 << 24), 0);
        assert!(a.successor() > a);
        let b = Tai64n::from_unix(1_600_000_060, 123_456_789);
        assert_eq!((b.since(&a), a.since(&b)), (Duration::from_mins(1), Duration::ZERO));
        // What a peer sends need be no time at all.
        assert_eq!(Tai64n::from_bytes([0xff; 12]).since(&Tai64n::default()), Duration::from_nanos(u64::MAX));
        let mut t = a;
        for _ in 0..200 {
            let next = t.successor();
            assert!(next > t && next.split().1 < 1_000_000_000);
            t = next;
        }
        assert!(t < Tai64n::from_unix(1_600_000_005, 0));
    }
}
