//! The slow path's thread: handshakes, and the timers of all peers.

use std::io;
use std::sync::Arc;

use adit_net::poll::{Events, Interest, Poller};
use adit_proto::time::Instant;

use crate::handshakes::Admission;
use crate::lock::Lock;
use crate::peer::Peer;
use crate::state::Device;

/// Handshake messages taken before the timers have their turn again.
const BATCH: usize = 32;

pub(crate) fn run(device: &Device) -> io::Result<()> {
    let poller = Poller::new()?;
    poller.add(&device.slow_path, 0, Interest::Read)?;
    poller.add(&device.deadlines, 1, Interest::Read)?;
    let mut events = Events::with_capacity(2);
    let mut admission = Admission::default();
    while !device.is_ending() {
        poller.wait(&mut events, None)?;
        device.slow_path.clear();
        while work(device, &mut admission) && !device.is_ending() {}
    }
    Ok(())
}

/// One round; returns whether messages may be left.
fn work(device: &Device, admission: &mut Admission) -> bool {
    while let Some((at, peer)) = device.deadlines.pop_due(Device::now()) {
        device.handle_deadline(at, &peer);
    }
    for peer in device.inbox.take_initiations() {
        device.send_initiation(&peer);
    }
    for _ in 0..BATCH {
        let Some((arrival, waiting)) = device.inbox.pop_arrival() else { return false };
        device.handle_arrival(&arrival, waiting, admission);
    }
    true
}

impl Device {
    fn handle_deadline(&self, at: Instant, peer: &Arc<Peer>) {
        let mut session = peer.session.locked();
        if peer.is_removed() {
            return;
        }
        let Some(due) = session.on_deadline(at, Self::now()) else { return };
        self.schedule(peer, &mut session);
        drop(session);
        if due.gave_up {
            log::info!("{peer}: does not answer, giving up until there is something to send");
        }
        if due.zero_key_material {
            self.retire(peer.handshake.locked().forget_pending());
        }
        self.retire(due.retired);
        if due.initiate {
            self.send_initiation(peer);
        }
        if due.flush {
            self.flush(peer);
        }
    }
}
