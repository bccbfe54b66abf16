//! Packets that wait for a session (whitepaper 6.4): few, and the oldest go first when there are too many.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits::{MAX_STAGED_BYTES, MAX_STAGED_IN_ALL, MAX_STAGED_PACKETS};

/// What a packet takes besides its bytes, about.
const OVERHEAD: usize = 64;

/// What `packet` takes of the room of all peers. A keepalive, of which a peer stages one at most, takes nothing: sessions are to be
/// confirmed and kept alive whatever waits for others.
fn cost(packet: &[u8]) -> usize {
    if packet.is_empty() { 0 } else { OVERHEAD + packet.len() }
}

/// The room that all peers of a device share: thousands that cannot be reached must not take 1 MiB each.
#[derive(Debug, Default)]
pub struct Room(AtomicUsize);

impl Room {
    /// Bytes taken, with what each packet takes besides.
    pub fn taken(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= MAX_STAGED_IN_ALL);
        self.0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Relaxed);
    }
}

/// A peer's waiting packets, oldest first. An empty packet is a keepalive.
#[derive(Default)]
pub struct Staged {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
    room: Arc<Room>,
}

impl Staged {
    /// Nothing yet; to be kept in a room that others share.
    pub fn within(room: Arc<Room>) -> Self {
        Staged { packets: VecDeque::new(), bytes: 0, room }
    }

    /// Adds `packet`; returns how many were dropped for it, older ones first, and at last itself: where others have taken
    /// all the room, their packets are no worse.
    pub fn push(&mut self, packet: &[u8]) -> usize {
        let mut dropped = 0;
        while self.packets.len() >= MAX_STAGED_PACKETS
            || (!self.packets.is_empty() && self.bytes + packet.len() > MAX_STAGED_BYTES)
        {
            self.pop();
            dropped += 1;
        }
        while !self.room.take(cost(packet)) {
            dropped += 1;
            if self.pop().is_none() {
                return dropped;
            }
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
        self.room.give_back(cost(&packet));
        Some(packet)
    }

    /// Drops all; returns how many.
    pub fn purge(&mut self) -> usize {
        let count = self.packets.len();
        self.room.give_back(self.packets.iter().map(|packet| cost(packet)).sum());
        // Its memory, too.
        self.packets = VecDeque::new();
        self.bytes = 0;
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

impl Drop for Staged {
    fn drop(&mut self) {
        self.purge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

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

    /// Ten thousand unreachable peers that a local user sends to.
    #[test]
    fn bounded_over_all_peers() {
        let room = Arc::new(Room::default());
        let mut peers: Vec<_> = (0..10_000).map(|_| Staged::within(room.clone())).collect();
        let packet = [0; 1_400];
        for _ in 0..MAX_STAGED_PACKETS {
            for peer in &mut peers {
                let (before, dropped) = (peer.len(), peer.push(&packet));
                assert_eq!(peer.len(), before + 1 - dropped);
                assert!(room.taken() <= MAX_STAGED_IN_ALL);
            }
        }
        let packets: usize = peers.iter().map(Staged::len).sum();
        assert_eq!(packets, MAX_STAGED_IN_ALL / (packet.len() + OVERHEAD));
        assert_eq!(room.taken(), packets * (packet.len() + OVERHEAD));
        // Who has a session already is not cut off from it.
        let [mut rest, mut confirming] = [(); 2].map(|()| Staged::within(room.clone()));
        while rest.push(&[0]) == 0 {}
        assert_eq!(confirming.push(&[0]), 1);
        assert_eq!(confirming.push(&[]), 0);
        assert_eq!(confirming.pop().as_deref(), Some(&[][..]));
        drop(rest);
        // Whoever gets a session makes room, however its packets go.
        let (mut sent, mut given_up) = (peers.remove(0), peers.remove(0));
        while sent.pop().is_some() {}
        assert!(given_up.purge() > 0);
        assert_eq!(sent.push(&packet), 0);
        drop(sent);
        drop(peers);
        assert_eq!(room.taken(), 0);
    }
}
