//! The handshake rate limit per source address (whitepaper 5.3): a token bucket for each, in a table of bounded size.
//!
//! It is asked only for messages with a valid mac2, that is from sources that receive at their address; forged ones
//! cannot fill it. Those who ask for a cookie may all be forged: [`CookieShares`] is for them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use core::net::IpAddr;
use core::time::Duration;

use rand_core::CryptoRng;

use crate::limits::COOKIES_PER_SECOND;
use crate::time::Instant;

/// What one handshake costs: 20 a second.
const COST: Duration = Duration::from_millis(50);
/// The largest credit: a burst of 5.
const CREDIT_MAX: Duration = Duration::from_millis(250);
/// An entry unused for this long has its full credit again, as an absent one has, so it can go.
const IDLE: Duration = Duration::from_secs(1);
/// Sources remembered in each of two generations, about 3 MiB for each; in the worst case a new source is refused.
const MAX_SOURCES: usize = 65_536;

/// An IPv4 address, or the first 64 bits of an IPv6 address: a single host has a whole /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Source::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Source::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// A token bucket, filled by time: whoever takes from it waits, on the average, what each thing costs.
#[derive(Clone, Copy)]
pub struct TokenBucket {
    credit: Duration,
    last: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(credit_max: Duration, now: Instant) -> Self {
        TokenBucket { credit: credit_max, last: now }
    }

    /// Takes `cost` if it is there. A clock that goes backwards fills nothing twice.
    pub fn take(&mut self, cost: Duration, credit_max: Duration, now: Instant) -> bool {
        self.credit = (self.credit + now.since(self.last)).min(credit_max);
        self.last = self.last.max(now);
        let is_there = self.credit >= cost;
        if is_there {
            self.credit -= cost;
        }
        is_there
    }
}

/// The table. A tree, for its worst case cannot be provoked by choosing addresses. Two generations, for dropping one
/// whole needs neither a scan nor a timer.
pub struct RateLimiter {
    young: BTreeMap<Source, TokenBucket>,
    old: BTreeMap<Source, TokenBucket>,
    turned: Instant,
}

impl Default for RateLimiter {
    fn default() -> Self {
        RateLimiter { young: BTreeMap::new(), old: BTreeMap::new(), turned: Instant::from_nanos(0) }
    }
}

impl RateLimiter {
    /// Whether a handshake from `ip` may be processed now; if so, it is paid for.
    pub fn allow(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.turn(now);
        let source = Source::from(ip);
        let mut bucket = match (self.young.get(&source), self.old.get(&source)) {
            (Some(bucket), _) => *bucket,
            // Also for one that was here before: else each generation might be larger than the last.
            (None, _) if self.young.len() >= MAX_SOURCES => return false,
            (None, Some(bucket)) => *bucket,
            (None, None) => TokenBucket::full(CREDIT_MAX, now),
        };
        let allowed = bucket.take(COST, CREDIT_MAX, now);
        self.young.insert(source, bucket);
        allowed
    }

    fn turn(&mut self, now: Instant) {
        if now.has_reached(self.turned, IDLE) {
            let recent = core::mem::take(&mut self.young);
            // After a longer pause the young are as idle as the old.
            self.old = if now.has_reached(self.turned, 2 * IDLE) { BTreeMap::new() } else { recent };
            self.turned = now;
        }
    }
}

/// Slots of a row of [`CookieShares`], as a power of two.
const SLOT_BITS: u32 = 17;
/// Both rows: 512 KiB.
const SLOTS: usize = 2 << SLOT_BITS;
/// How long a share lasts.
const SHARE_TIME: Duration = Duration::from_secs(1);

/// Who of those who have no cookie gets one. An answer costs many times what it takes to forge a question, so their number is
/// limited, and they are shared equally by the addresses that ask: thousands of forged ones leave an honest one its own.
///
/// Addresses are counted without being kept: each has one counter in each of two rows, chosen by a hash that nobody can
/// foresee, and the smaller one counts. An honest one has to share both with forged ones to be taken for one of them.
#[derive(Default)]
pub struct CookieShares {
    /// Nothing until they are needed.
    counts: Box<[u16]>,
    /// The hashes, one for each row; odd.
    multipliers: [u64; 2],
    turned: Option<Instant>,
    /// Different addresses so far, or about that.
    asking: u32,
    share: u16,
    /// Cookies left before their number is known.
    left: u32,
}

impl CookieShares {
    /// Whether a message from `ip` may be answered with a cookie now; if so, it counts.
    pub fn allow(&mut self, ip: IpAddr, now: Instant, rng: &mut dyn CryptoRng) -> bool {
        if self.turned.is_none_or(|turned| now.has_reached(turned, SHARE_TIME)) {
            self.turn(now, rng);
        }
        let source = match Source::from(ip) {
            Source::V4(v4) => u64::from(u32::from_be_bytes(v4)),
            Source::V6(v6) => u64::from_be_bytes(v6),
        };
        let (one, other) = self.counts.split_at_mut(SLOTS / 2);
        let [one, other] =
            [(one, self.multipliers[0]), (other, self.multipliers[1])].map(|(row, multiplier)| {
                // An address is the number of its sum with one, for zero would be in the same place whatever the multiplier.
                let hash = multiplier.wrapping_mul(source.wrapping_add(1));
                &mut row[(hash >> (u64::BITS - SLOT_BITS)) as usize]
            });
        let before = (*one).min(*other);
        self.asking += u32::from(before == 0);
        // Only the smaller one grows, or the other's neighbours would pay for it.
        for count in [one, other] {
            if *count == before {
                *count = count.saturating_add(1);
            }
        }
        let is_allowed = before < self.share && self.left > 0;
        self.left = self.left.saturating_sub(is_allowed.into());
        is_allowed
    }

    /// Last second's askers tell this one's shares. When nobody asked, whoever is first has one.
    fn turn(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        if self.counts.is_empty() {
            self.counts = vec![0; SLOTS].into();
        } else {
            self.counts.fill(0);
        }
        let mut random = [0; 16];
        rng.fill_bytes(&mut random);
        let (multipliers, _) = random.as_chunks::<8>();
        self.multipliers = [multipliers[0], multipliers[1]].map(|bytes| u64::from_ne_bytes(bytes) | 1);
        let share = COOKIES_PER_SECOND / self.asking.max(1);
        self.share = u16::try_from(share).unwrap_or(u16::MAX).max(1);
        // Of a share for each, whatever their number: who is never answered never gets in.
        self.left = if self.asking == 0 { COOKIES_PER_SECOND } else { u32::MAX };
        self.asking = 0;
        self.turned = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    #[test]
    fn burst_of_five_then_twenty_a_second() {
        let mut limiter = RateLimiter::default();
        let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let allowed = (0..100).filter(|_| limiter.allow(ip, START)).count();
        assert_eq!(allowed, 5);
        let allowed = (1..=1000).filter(|ms| limiter.allow(ip, START + Duration::from_millis(*ms))).count();
        assert_eq!(allowed, 20);
        assert!(
            limiter.allow(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), START),
            "another address is not affected"
        );
    }

    #[test]
    fn an_ipv6_host_is_its_slash_64() {
        let mut limiter = RateLimiter::default();
        let address = |net: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host));
        let allowed = (0..100).filter(|host| limiter.allow(address(1, *host), START)).count();
        assert_eq!(allowed, 5);
        assert!(limiter.allow(address(2, 0), START));
    }

    /// GotaTun's table grows with every source, and is emptied only while some peer has an endpoint.
    #[test]
    fn the_table_is_bounded_and_empties() {
        let mut limiter = RateLimiter::default();
        let address = |i: u32| IpAddr::V4(Ipv4Addr::from(i));
        let count = u32::try_from(MAX_SOURCES).unwrap();
        for i in 0..2 * count {
            assert_eq!(limiter.allow(address(i), START), i < count);
        }
        assert!(limiter.young.len() + limiter.old.len() <= 2 * MAX_SOURCES);
        // The same ones come back after others have filled the next generation.
        let later = START + IDLE;
        for i in 2 * count..3 * count {
            assert!(limiter.allow(address(i), later));
        }
        assert!(!limiter.allow(address(0), later));
        assert!(limiter.young.len() + limiter.old.len() <= 2 * MAX_SOURCES);
        let later = START + 5 * IDLE;
        assert!(limiter.allow(address(u32::MAX), later));
        assert_eq!(limiter.young.len() + limiter.old.len(), 1);
    }

    #[test]
    fn a_clock_that_goes_backwards_neither_panics_nor_opens_the_gate() {
        let mut limiter = RateLimiter::default();
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for _ in 0..5 {
            assert!(limiter.allow(ip, START));
        }
        assert!(!limiter.allow(ip, Instant::from_nanos(1)));
        assert!(!limiter.allow(ip, START));
    }

    /// Asks for each of `sources` in turn; returns who got how many.
    fn ask(
        shares: &mut CookieShares,
        sources: impl Iterator<Item = u32>,
        now: Instant,
    ) -> BTreeMap<u32, u32> {
        let mut rng = crate::testing::rng(1);
        let mut got = BTreeMap::new();
        for source in sources {
            let allowed = shares.allow(Ipv4Addr::from(source).into(), now, &mut rng);
            *got.entry(source).or_default() += u32::from(allowed);
        }
        got
    }

    #[test]
    fn one_address_gets_all_cookies() {
        let mut shares = CookieShares::default();
        let got = ask(&mut shares, (0..100_000).map(|_| 7), START);
        assert_eq!(got[&7], COOKIES_PER_SECOND);
    }

    #[test]
    fn many_forged_addresses_leave_an_honest_one_its_share() {
        let mut shares = CookieShares::default();
        let flood = || (0..400_000).map(|n| n % 20_000);
        ask(&mut shares, flood(), START);
        let mut answered = 0;
        for second in 1..=100 {
            let now = START + SHARE_TIME * second;
            let got = ask(&mut shares, flood(), now);
            let all: u32 = got.values().sum();
            assert!(all <= COOKIES_PER_SECOND, "{all}");
            answered += ask(&mut shares, [0xc000_0200 + second].into_iter(), now).values().sum::<u32>();
        }
        // It shares both its counters with others less than once in twenty times.
        assert!(answered >= 85, "{answered}");
    }

    #[test]
    fn the_counters_are_all_it_keeps() {
        let mut shares = CookieShares::default();
        ask(&mut shares, 0..1_000_000, START);
        ask(&mut shares, 0..1_000_000, START + SHARE_TIME);
        assert_eq!(shares.counts.len(), SLOTS);
        assert_eq!(shares.share, 1);
    }
}
