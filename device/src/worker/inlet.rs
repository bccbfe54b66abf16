//! Where a worker's packets come from: the interface and the sockets, or a benchmark's memory.

use std::io;

use adit_net::tun::{Read, TunQueue};
use adit_net::udp::{Received, RecvBatch, RecvBuffer};

/// Packets and super-packets that wait to be sent.
pub(super) trait Packets {
    /// See [`TunQueue::read`].
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<Read>>;
}

impl Packets for TunQueue {
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<Read>> {
        TunQueue::read(self, buffer)
    }
}

/// Trains that were received by one call.
pub(super) trait Trains {
    /// How many.
    fn len(&self) -> usize;

    /// See [`RecvBatch::is_full`].
    fn is_full(&self) -> bool;

    /// See [`RecvBatch::take`].
    fn take(&mut self, index: usize, buffer: &mut RecvBuffer) -> Received;
}

impl Trains for RecvBatch {
    fn len(&self) -> usize {
        RecvBatch::len(self)
    }

    fn is_full(&self) -> bool {
        RecvBatch::is_full(self)
    }

    fn take(&mut self, index: usize, buffer: &mut RecvBuffer) -> Received {
        RecvBatch::take(self, index, buffer)
    }
}
