//! Packets that wait for a session (whitepaper 6.4): few, and the oldest go first when there are too many.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use crate::limits::{MAX_STAGED_BYTES, MAX_STAGED_PACKETS};

/// A peer's waiting packets, oldest first. An empty packet is a keepalive.
#[derive(Default)]
pub struct Staged {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Staged {
    /// Adds `packet`; returns how many older ones were dropped for it.
    pub fn push(&mut self, packet: &[u8]) -> usize {
        let mut dropped = 0;
        while self.packets.len() >= MAX_STAGED_PACKETS
            || (!self.packets.is_empty() && self.bytes + packet.len() > MAX_STAGED_BYTES)
        {
            self.pop();
            dropped += 1;
        }
        self.bytes += packet.len();
        self.packets.push_back(packet.into());
        dropped
    }

    /// The oldest packet's length.
    pub fn peek_len(&self) -> Option<usize> {
        self.packets.front().map(|packet| packet.len())
    }

    /// Takes the oldest packet.
    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }

    /// Drops all; returns how many.
    pub fn purge(&mut self) -> usize {
        let count = self.packets.len();
        *self = Staged::default();
        count
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn bounded_in_packets_and_the_oldest_goes() {
        let mut staged = Staged::default();
        for i in 0..200u8 {
            assert_eq!(staged.push(&[i]), usize::from(i >= 128));
        }
        assert_eq!(staged.len(), 128);
        assert_eq!(*staged.pop().unwrap(), [72]);
    }

    #[test]
    fn bounded_in_bytes_but_one_packet_always_fits() {
        let mut staged = Staged::default();
        let packet = vec![0; 60_000];
        for _ in 0..40 {
            staged.push(&packet);
        }
        assert_eq!(staged.len(), MAX_STAGED_BYTES / 60_000);
        assert_eq!(staged.push(&vec![0; MAX_STAGED_BYTES + 1]), 17);
        assert_eq!(staged.len(), 1);
        assert_eq!(staged.purge(), 1);
        assert!(staged.is_empty() && staged.bytes == 0);
    }
}
