//! Where a worker's packets go: to the interface and the sockets, or into a benchmark's memory.

use std::io;

use adit_net::segment::{Delivery, Group};
use adit_net::tun::{Offloads, Tun, TunQueue};
use adit_net::udp::Bound;

use super::train::Train;
use super::unreachable::Unreachable;
use crate::state::Device;

pub(super) trait Outlet {
    /// Sealed trains, which are in `buffer`, leave for their peers; those for the same peer in this order.
    fn send(&mut self, trains: &mut [Train], buffer: &[u8]);

    /// Which super-packets [`deliver`](Self::deliver) takes.
    fn offloads(&self) -> Offloads;

    /// A packet or super-packet has arrived.
    fn deliver(&mut self, group: &Group<'_, '_>) -> io::Result<Delivery>;

    /// A packet cannot be delivered; its sender is to be told.
    fn unreachable(&mut self, packet: &[u8]);
}

/// The real one.
pub(super) struct Ports<'a> {
    pub(super) device: &'a Device,
    /// Whose sockets to send through.
    pub(super) number: usize,
    /// None while the interface is down: what is still under way is dropped.
    pub(super) bound: Option<&'a Bound>,
    pub(super) tun: &'a Tun,
    /// The queue to write through.
    pub(super) writer: &'a TunQueue,
    pub(super) limit: &'a mut Unreachable,
}

impl Outlet for Ports<'_> {
    fn send(&mut self, trains: &mut [Train], buffer: &[u8]) {
        if let Some(bound) = self.bound {
            self.device.send_all(trains, buffer, (bound, self.number));
        }
    }

    fn offloads(&self) -> Offloads {
        self.tun.offloads()
    }

    fn deliver(&mut self, group: &Group<'_, '_>) -> io::Result<Delivery> {
        group.write_to(self.writer)
    }

    fn unreachable(&mut self, packet: &[u8]) {
        self.limit.answer(self.writer, packet);
    }
}
