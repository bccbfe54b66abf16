//! Memory in the place of the TUN queue and the sockets.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use adit_net::segment::{Delivery, Group};
use adit_net::tun::{Offloads, Read};
use adit_net::udp::{Received, RecvBuffer, SLOT_LEN};

use super::super::RECV_SLOTS;
use super::super::inlet::{Packets, Trains};
use super::super::outlet::Outlet;
use super::super::train::Train;

/// Where all trains come from, and go to.
pub(super) const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 51820);

/// Packets that a closure hands out.
pub(super) struct Waiting<F>(RefCell<F>);

impl<F: FnMut(&mut [u8]) -> Option<Read>> Waiting<F> {
    pub(super) fn new(read: F) -> Self {
        Waiting(RefCell::new(read))
    }
}

impl<F: FnMut(&mut [u8]) -> Option<Read>> Packets for Waiting<F> {
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<Read>> {
        Ok((self.0.borrow_mut())(buffer))
    }
}

/// What `RecvBatch` is to sockets.
pub(super) struct Batch {
    slots: Vec<RecvBuffer>,
    received: Vec<Received>,
    limit: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Batch {
            slots: (0..RECV_SLOTS).map(|_| RecvBuffer::default()).collect(),
            received: Vec::with_capacity(RECV_SLOTS),
            limit: RECV_SLOTS,
        }
    }

    /// Returns how many trains there were.
    pub(super) fn fill(&mut self, mut receive: impl FnMut(&mut [u8]) -> Option<(usize, usize)>) -> usize {
        self.received.clear();
        for slot in &mut self.slots[..self.limit] {
            let Some((len, stride)) = receive(slot.train_mut(SLOT_LEN)) else { break };
            self.received.push(Received { from: ADDRESS, local: None, ecn: 0, len, stride });
        }
        self.received.len()
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, self.slots.len());
    }
}

impl Trains for Batch {
    fn len(&self) -> usize {
        self.received.len()
    }

    fn is_full(&self) -> bool {
        self.received.len() >= self.limit
    }

    fn take(&mut self, index: usize, buffer: &mut RecvBuffer) -> Received {
        std::mem::swap(&mut self.slots[index], buffer);
        self.received[index]
    }
}

/// Takes sealed trains.
pub(super) struct ToUdp<F>(pub(super) F);

impl<F: FnMut(&[u8], usize)> Outlet for ToUdp<F> {
    fn send(&mut self, trains: &mut [Train], buffer: &[u8]) {
        for train in trains {
            let messages = train.messages(buffer);
            train.peer.sent(messages.len());
            (self.0)(messages, train.stride);
        }
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn deliver(&mut self, _group: &Group<'_, '_>) -> io::Result<Delivery> {
        unreachable!("the sending half delivers nothing")
    }

    fn unreachable(&mut self, _packet: &[u8]) {}
}

/// Takes packets and super-packets.
pub(super) struct ToTun<F>(pub(super) F);

impl<F: FnMut(&Group<'_, '_>)> Outlet for ToTun<F> {
    fn send(&mut self, _trains: &mut [Train], _buffer: &[u8]) {
        unreachable!("the receiving half sends nothing")
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    fn deliver(&mut self, group: &Group<'_, '_>) -> io::Result<Delivery> {
        (self.0)(group);
        Ok(Delivery::Whole)
    }

    fn unreachable(&mut self, _packet: &[u8]) {}
}
