//! The slow path's thread: handshakes, and the timers of all peers.

use std::io;
use std::sync::Arc;

use adit_net::poll::{Events, Interest, Poller};
use adit_proto::time::Instant;

use crate::handshakes::Admission;
use crate::lock::Lock;
use crate::peer::Peer;
use crate::state::Device;

/// Things of one kind that are done before the other kinds have their turn again.
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
        while !device.is_ending() && work(device, &mut admission) {}
    }
    Ok(())
}

/// One round; returns whether something may be left.
fn work(device: &Device, admission: &mut Admission) -> bool {
    let inbox = &device.inbox;
    let are_left = [
        up_to_a_batch(
            || device.deadlines.pop_due(Device::now()),
            |(at, peer)| device.handle_deadline(at, &peer),
        ),
        up_to_a_batch(|| inbox.pop_initiation(), |peer| device.send_initiation(&peer)),
        up_to_a_batch(|| inbox.pop_flush(), |peer| device.flush(&peer)),
        up_to_a_batch(
            || inbox.pop_arrival(),
            |(arrival, waiting)| device.handle_arrival(&arrival, waiting, admission),
        ),
    ];
    are_left.contains(&true)
}

/// Does what `next` gives; returns whether that was a whole batch, and more may be left.
fn up_to_a_batch<T>(mut next: impl FnMut() -> Option<T>, mut each: impl FnMut(T)) -> bool {
    (0..BATCH).all(|_| next().map(&mut each).is_some())
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
