//! The slow path's thread: handshakes, and the timers of all peers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::{io, iter, thread};

use adit_control::Reason;
use adit_net::poll::{Events, Interest, Poller};
use adit_proto::session::Due;
use adit_proto::time::Instant;

use crate::handshakes::Admission;
use crate::lock::Lock;
use crate::peer::Peer;
use crate::state::Device;
use crate::trouble::Trouble;
use crate::why::Note;

/// Things of one kind that are done before the other kinds have their turn again.
const BATCH: usize = 32;
/// Handshakes whose steps are taken together: with what each needs they fill vectors, and nobody waits long for the last.
const GROUP: usize = 8;

/// How often deadlines are looked at while the timer cannot be set.
const WITHOUT_TIMER: Duration = Duration::from_millis(20);

/// What it waits with.
pub(crate) fn poller(device: &Device) -> io::Result<Poller> {
    let poller = Poller::new()?;
    poller.add(&device.slow_path, 0, Interest::Read)?;
    poller.add(&device.deadlines, 1, Interest::Read)?;
    Ok(poller)
}

/// Runs until the device ends.
pub(crate) fn run(device: &Device, poller: &Poller) -> io::Result<()> {
    let mut events = Events::with_capacity(2);
    let mut trouble = Trouble::default();
    serve(device, || {
        if device.deadlines.is_timer_wrong() {
            // Not by the wait: a timer that cannot be cleared would end it at once.
            thread::sleep(WITHOUT_TIMER);
            return Ok(());
        }
        trouble.wait(poller, &mut events, None)
    })
}

/// Does what is to be done whenever `wait` returns.
pub(crate) fn serve(device: &Device, mut wait: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut admission = Admission::default();
    while !device.is_ending() {
        wait()?;
        device.slow_path.clear();
        while !device.is_ending() && work(device, &mut admission) {}
    }
    Ok(())
}

/// One round; returns whether something may be left.
pub(crate) fn work(device: &Device, admission: &mut Admission) -> bool {
    let inbox = &device.inbox;
    let are_left = [
        up_to_a_batch(
            || device.deadlines.pop_due(Device::now()),
            |due| {
                let initiate = due.into_iter().filter(|(at, peer)| device.handle_deadline(*at, peer));
                device.send_initiations(initiate.map(|(_, peer)| peer).collect());
            },
        ),
        up_to_a_batch(|| inbox.pop_initiation(), |peers| device.send_initiations(peers)),
        up_to_a_batch(|| inbox.pop_flush(), |peers| peers.iter().for_each(|peer| device.flush(peer))),
        up_to_a_batch(|| inbox.pop_arrival(), |arrivals| device.handle_arrivals(&arrivals, admission)),
    ];
    are_left.contains(&true)
}

/// Does what `next` gives, in groups; returns whether that was a whole batch, and more may be left.
fn up_to_a_batch<T>(mut next: impl FnMut() -> Option<T>, mut each: impl FnMut(Vec<T>)) -> bool {
    (0..BATCH / GROUP).all(|_| {
        let group: Vec<T> = iter::from_fn(&mut next).take(GROUP).collect();
        let is_whole = group.len() == GROUP;
        if !group.is_empty() {
            each(group);
        }
        is_whole
    })
}

impl Device {
    /// Returns whether to send an initiation.
    fn handle_deadline(&self, at: Instant, peer: &Arc<Peer>) -> bool {
        let mut session = peer.session.locked();
        if peer.is_removed() {
            return false;
        }
        let Some(due) = session.on_deadline(at, Self::now()) else { return false };
        self.schedule(peer, &mut session);
        drop(session);
        self.note_due(peer, &due);
        if due.gave_up {
            log::info!("{peer}: does not answer, giving up until there is something to send");
        }
        if due.zero_key_material {
            self.retire(peer.handshake.locked().forget_pending());
        }
        self.retire(due.retired);
        if due.flush {
            self.flush(peer);
        }
        due.initiate
    }

    fn note_due(&self, peer: &Peer, due: &Due) {
        let has_answered = due.unanswered && peer.answered_in_vain.swap(false, Relaxed);
        for (is_so, reason) in [
            (due.unanswered && !has_answered, Reason::NoAnswer),
            (due.gave_up, Reason::GaveUp),
            (due.silent, Reason::PeerSilent),
        ] {
            if is_so {
                let endpoint = peer.session.locked().endpoint().map(|endpoint| endpoint.addr);
                let note = Note::new(reason).peer(peer);
                self.note(endpoint.map_or(note, |endpoint| note.at(endpoint)));
            }
        }
    }
}
