//! Telling the sender of a packet that it cannot be delivered, as the kernel's WireGuard does: no peer's allowed IPs match,
//! or the peer's endpoint is not known.

use std::io::IoSlice;
use std::time::Duration;

use adit_net::packet;
use adit_net::tun::{TunQueue, VirtioNetHdr};
use adit_proto::ratelimit::TokenBucket;
use adit_proto::time::Instant;

use crate::state::Device;

/// What a message costs: 1,000 a second, and a burst of 50, the kernel's own limits (`icmp_msgs_per_sec`,
/// `icmp_msgs_burst`). A gateway must not answer a flood with a flood.
const COST: Duration = Duration::from_millis(1);
const CREDIT_MAX: Duration = Duration::from_millis(50);

/// A worker's credit for such messages.
pub(super) struct Unreachable(TokenBucket);

impl Default for Unreachable {
    fn default() -> Self {
        Unreachable(TokenBucket::full(CREDIT_MAX, Instant::default()))
    }
}

impl Unreachable {
    /// Answers `packet`, which came from `queue`, if it is one that is to be answered.
    pub(super) fn answer(&mut self, queue: &TunQueue, packet: &[u8]) {
        // From the address that it was sent to: the interface's own would be refused as the source of what comes in.
        let Some(icmp) = packet::icmp_unreachable(packet, None) else { return };
        if self.allows(Device::now())
            && let Err(error) = queue.write(&VirtioNetHdr::default(), &[IoSlice::new(&icmp)])
        {
            log::debug!("an ICMP message could not be written: {error}");
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        self.0.take(COST, CREDIT_MAX, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_at_once_and_a_thousand_a_second() {
        let mut unreachable = Unreachable::default();
        let start = Instant::from_nanos(1_000_000_000);
        assert_eq!((0..1000).filter(|_| unreachable.allows(start)).count(), 50);
        let later = |step: u32| start + Duration::from_micros(100) * step;
        assert_eq!((1..=10_000).filter(|step| unreachable.allows(later(*step))).count(), 1000);
    }
}
