//! What is known of segmentation being refused.
//!
//! `EIO` means that a route can't do it at all (IPsec, a device without checksums): segmentation ends for the socket.
//! `EINVAL` or `EMSGSIZE` mean that the stride exceeds the MTU of one path: strides from that one up, to that one
//! address, go out packet by packet for [`REFUSED_TRAINS`] trains, then it is tried again, since paths change.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How many trains a refusal lasts.
const REFUSED_TRAINS: u16 = 1_000;

/// Addresses remembered at a time; a collision forgets the older one, which costs one refused call to learn again.
const SLOTS: usize = 16;

/// Segmentation state of one socket.
pub(super) struct GsoState {
    enabled: AtomicBool,
    refusals: [AtomicU64; SLOTS],
}

impl GsoState {
    pub fn new(enabled: bool) -> Self {
        Self { enabled: AtomicBool::new(enabled), refusals: [const { AtomicU64::new(0) }; SLOTS] }
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    pub fn disable(&self) {
        self.enabled.store(false, Relaxed);
    }

    /// Whether to try a train of this stride to this address with segmentation; counts the train if not.
    pub fn allows(&self, to: IpAddr, stride: u16) -> bool {
        if !self.is_enabled() {
            return false;
        }
        let (slot, tag) = self.slot(to);
        let packed = slot.load(Relaxed);
        let Some(mut refusal) = Refusal::unpack(packed) else { return true };
        if refusal.tag != tag || stride < refusal.stride {
            return true;
        }
        refusal.trains_left -= 1;
        // A lost race means that another worker counted its train instead: the refusal lasts one train longer.
        let _ = slot.compare_exchange(packed, refusal.pack(), Relaxed, Relaxed);
        false
    }

    /// Remembers that this stride was refused to this address.
    pub fn refuse(&self, to: IpAddr, stride: u16) {
        let (slot, tag) = self.slot(to);
        slot.store(Refusal { tag, stride, trains_left: REFUSED_TRAINS }.pack(), Relaxed);
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
    fn disabled_is_for_good() {
        let gso = GsoState::new(true);
        gso.disable();
        assert!((0..3_000).all(|_| !gso.allows(ip("192.0.2.1"), 100)));
    }
}
