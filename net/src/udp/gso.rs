//! What is known of segmentation being refused.
//!
//! `EIO` means that a route can't do it at all (IPsec; before Linux 6.11 a device without checksums), `EINVAL` or
//! `EMSGSIZE` that the stride exceeds the MTU of one path. Either way trains to that one address, of that stride or
//! more, go out packet by packet for [`REFUSED_TRAINS`] trains, then it is tried again, since paths change.
//!
//! Where all routes are like that, remembering addresses does not help: there may be thousands. After
//! [`EIO_PATIENCE`] times `EIO` without a success in between the socket gives segmentation up, for as many trains.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How many trains a refusal lasts. One refused call in a thousand is not worth avoiding.
const REFUSED_TRAINS: u16 = 1_000;

/// Times `EIO`, with no success in between, after which it is the socket's and not an address's.
const EIO_PATIENCE: u32 = 4;

/// Addresses remembered at a time; a collision forgets the older one, which costs one refused call to learn again.
const SLOTS: usize = 16;

/// Segmentation state of one socket.
pub(super) struct GsoState {
    /// Switched on, and known to the kernel.
    available: bool,
    eio_in_a_row: AtomicU32,
    /// Trains for which it is given up.
    given_up_for: AtomicU32,
    refusals: [AtomicU64; SLOTS],
}

impl GsoState {
    pub fn new(available: bool) -> Self {
        Self {
            available,
            eio_in_a_row: AtomicU32::new(0),
            given_up_for: AtomicU32::new(0),
            refusals: [const { AtomicU64::new(0) }; SLOTS],
        }
    }

    pub fn is_available(&self) -> bool {
        self.available
    }

    /// Whether the last tries all ended in `EIO`; it may be about to be tried again.
    pub fn is_given_up(&self) -> bool {
        self.eio_in_a_row.load(Relaxed) >= EIO_PATIENCE
    }

    /// How many addresses are known to which trains of some stride go packet by packet.
    pub fn refused_addresses(&self) -> usize {
        self.refusals.iter().filter(|slot| Refusal::unpack(slot.load(Relaxed)).is_some()).count()
    }

    /// Whether to try a train of this stride to this address with segmentation; counts the train if not.
    pub fn allows(&self, to: IpAddr, stride: u16) -> bool {
        if !self.available || self.counts_as_given_up() {
            return false;
        }
        let (slot, packed, Some(mut refusal)) = self.refusal(to, stride) else { return true };
        refusal.trains_left -= 1;
        // A lost race means that another worker counted its train instead: the refusal lasts one train longer.
        let _ = slot.compare_exchange(packed, refusal.pack(), Relaxed, Relaxed);
        false
    }

    /// What [`allows`](Self::allows) would deny; counts nothing.
    pub fn refuses(&self, to: IpAddr, stride: u16) -> bool {
        !self.available || self.given_up_for.load(Relaxed) > 0 || self.refusal(to, stride).2.is_some()
    }

    /// The slot of this address, what is in it, and the refusal of this stride if it is one.
    fn refusal(&self, to: IpAddr, stride: u16) -> (&AtomicU64, u64, Option<Refusal>) {
        let (slot, tag) = self.slot(to);
        let packed = slot.load(Relaxed);
        let refusal =
            Refusal::unpack(packed).filter(|refusal| refusal.tag == tag && stride >= refusal.stride);
        (slot, packed, refusal)
    }

    fn counts_as_given_up(&self) -> bool {
        let left = self.given_up_for.load(Relaxed);
        if left > 0 {
            // A lost race: as above.
            let _ = self.given_up_for.compare_exchange(left, left - 1, Relaxed, Relaxed);
        }
        left > 0
    }

    /// Remembers that this stride was refused to this address.
    pub fn refuse(&self, to: IpAddr, stride: u16) {
        let (slot, tag) = self.slot(to);
        slot.store(Refusal { tag, stride, trains_left: REFUSED_TRAINS }.pack(), Relaxed);
    }

    /// Remembers that any segmentation was refused to this address (`EIO`); true if it is given up thereupon.
    pub fn refuse_all(&self, to: IpAddr) -> bool {
        let in_a_row = self.eio_in_a_row.load(Relaxed).saturating_add(1);
        self.eio_in_a_row.store(in_a_row, Relaxed);
        if in_a_row < EIO_PATIENCE {
            self.refuse(to, 0);
            return false;
        }
        self.forget(to);
        self.given_up_for.store(REFUSED_TRAINS.into(), Relaxed);
        in_a_row == EIO_PATIENCE
    }

    /// Notes that segmentation works.
    pub fn succeeded(&self) {
        // Nearly always it is zero already.
        if self.eio_in_a_row.load(Relaxed) != 0 {
            self.eio_in_a_row.store(0, Relaxed);
        }
    }

    /// Otherwise the address's own thousand trains would begin when the socket's end.
    fn forget(&self, to: IpAddr) {
        self.slot(to).0.store(0, Relaxed);
    }

    fn slot(&self, to: IpAddr) -> (&AtomicU64, u32) {
        let bits = match to {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ ip.to_bits() as u64,
        };
        // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
        let hash = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (&self.refusals[(hash >> 60) as usize % SLOTS], (hash >> 28) as u32)
    }
}

/// One remembered refusal: `tag` (32 bits) | `stride` (16) | `trains_left` (16); no trains left is no refusal.
struct Refusal {
    tag: u32,
    stride: u16,
    trains_left: u16,
}

impl Refusal {
    fn pack(&self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.stride) << 16 | u64::from(self.trains_left)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let refusal =
            Self { tag: (packed >> 32) as u32, stride: (packed >> 16) as u16, trains_left: packed as u16 };
        (refusal.trains_left > 0).then_some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_refusal_is_of_one_address_and_of_larger_strides_only() {
        let gso = GsoState::new(true);
        gso.refuse(ip("192.0.2.1"), 1400);
        assert!(!gso.allows(ip("192.0.2.1"), 1400));
        assert!(!gso.allows(ip("192.0.2.1"), 1452));
        assert!(gso.allows(ip("192.0.2.1"), 1399));
        assert!(gso.allows(ip("192.0.2.2"), 1452));
        assert!(gso.allows(ip("2001:db8::1"), 1452));
    }

    #[test]
    fn a_refusal_is_forgotten() {
        let gso = GsoState::new(true);
        gso.refuse(ip("2001:db8::1"), 1400);
        let refused = (0..).take_while(|_| !gso.allows(ip("2001:db8::1"), 1400)).count();
        assert_eq!(refused, usize::from(REFUSED_TRAINS));
    }

    #[test]
    fn what_is_switched_off_stays_off() {
        let gso = GsoState::new(false);
        assert!((0..3_000).all(|_| !gso.allows(ip("192.0.2.1"), 100)));
        assert!(!gso.is_given_up());
    }

    #[test]
    fn one_eio_is_about_one_address() {
        let gso = GsoState::new(true);
        assert!(!gso.refuse_all(ip("192.0.2.1")));
        assert!(!gso.allows(ip("192.0.2.1"), 1));
        assert!(gso.allows(ip("192.0.2.2"), 1452));
        assert_eq!((gso.is_given_up(), gso.refused_addresses()), (false, 1));
    }

    #[test]
    fn successes_in_between_keep_the_socket_trying() {
        let gso = GsoState::new(true);
        for _ in 0..10 * EIO_PATIENCE {
            gso.refuse_all(ip("192.0.2.1"));
            gso.succeeded();
        }
        assert!(!gso.is_given_up() && gso.allows(ip("192.0.2.2"), 1452));
    }

    #[test]
    fn nothing_but_eio_ends_it_for_all_and_one_success_begins_it_again() {
        let gso = GsoState::new(true);
        let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"].map(ip);
        let ended: Vec<bool> = addresses.iter().map(|to| gso.refuse_all(*to)).collect();
        assert_eq!(ended, [false, false, false, true], "said once");
        let stranger = ip("198.51.100.9");
        for _ in 0..3 {
            assert!(gso.is_given_up());
            let trains = (0..).take_while(|_| !gso.allows(stranger, 1452)).count();
            assert_eq!(trains, usize::from(REFUSED_TRAINS));
            assert!(!gso.refuse_all(stranger), "tried once, refused again");
        }
        while !gso.allows(stranger, 1452) {}
        gso.succeeded();
        assert!(!gso.is_given_up() && gso.allows(stranger, 1452));
        assert!(!gso.refuse_all(stranger), "patience starts again");
        assert!(!gso.is_given_up());
    }
}
