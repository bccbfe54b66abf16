//! The slow path's thread: handshakes, from the gate on, and the timers of all peers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::{io, iter, thread};

use adit_control::Reason;
use adit_net::poll::{Events, Interest, Poller};
use adit_net::tun::Tun;
use adit_proto::limits::{MAX_QUEUED_HANDSHAKES, MAX_QUEUED_PROVEN};
use adit_proto::session::Due;
use adit_proto::time::Instant;

use crate::handshakes::Admission;
use crate::lock::Lock;
use crate::peer::Peer;
use crate::queue::Lane;
use crate::state::Device;
use crate::trouble::Trouble;
use crate::why::Note;
use crate::worker::Gate;

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
pub(crate) fn run(device: &Device, tun: &Tun, poller: &Poller) -> io::Result<()> {
    let events = Events::with_capacity(4);
    let mut system =
        System { device, poller, events, trouble: Trouble::default(), gate: Gate::new(device, tun) };
    serve(device, &mut system)
}

/// What the slow path has to wait for, and what comes to it besides what the workers bring.
pub(crate) trait Outside {
    /// Returns when there is something to do, or may be.
    fn wait(&mut self) -> io::Result<()>;
    /// Puts what has come into the inbox; true if more may be waiting.
    fn receive(&mut self) -> bool;
}

struct System<'a> {
    device: &'a Device,
    poller: &'a Poller,
    events: Events,
    trouble: Trouble,
    gate: Gate<'a>,
}

impl Outside for System<'_> {
    fn wait(&mut self) -> io::Result<()> {
        self.gate.rest();
        if self.device.deadlines.is_timer_wrong() {
            // Not by the wait: a timer that cannot be cleared would end it at once.
            thread::sleep(WITHOUT_TIMER);
            return Ok(());
        }
        self.trouble.wait(self.poller, &mut self.events, self.gate.patience())
    }

    fn receive(&mut self) -> bool {
        self.gate.follow(self.poller, 2, &mut self.trouble);
        self.gate.receive(&mut self.trouble)
    }
}

/// Does what is to be done whenever `outside` has waited.
pub(crate) fn serve(device: &Device, outside: &mut impl Outside) -> io::Result<()> {
    let mut admission = Admission::default();
    while !device.is_ending() {
        outside.wait()?;
        device.slow_path.clear();
        while !device.is_ending() && (outside.receive() | work(device, &mut admission)) {}
    }
    Ok(())
}

/// One round; returns whether something may be left.
pub(crate) fn work(device: &Device, admission: &mut Admission) -> bool {
    let inbox = &device.inbox;
    // To turn somebody away takes hardly longer than to let him wait; and who sends one message with a cookie over and over
    // must not fill the room of others that have one.
    let turns_away = admission.turns_away();
    let up_to_all = |room| if turns_away { room } else { BATCH };
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
        handle_arrivals(device, Lane::Proven, up_to_all(MAX_QUEUED_PROVEN), admission),
        handle_arrivals(device, Lane::Replies, BATCH, admission),
        handle_arrivals(device, Lane::Unproven, up_to_all(MAX_QUEUED_HANDSHAKES), admission),
    ];
    are_left.contains(&true)
}

fn handle_arrivals(device: &Device, lane: Lane, count: usize, admission: &mut Admission) -> bool {
    up_to(
        count,
        || device.inbox.pop_arrival(lane),
        |arrivals| device.handle_arrivals(lane, &arrivals, admission),
    )
}

fn up_to_a_batch<T>(next: impl FnMut() -> Option<T>, each: impl FnMut(Vec<T>)) -> bool {
    up_to(BATCH, next, each)
}

/// Does what `next` gives, in groups; returns whether that were `count`, and more may be left.
fn up_to<T>(count: usize, mut next: impl FnMut() -> Option<T>, mut each: impl FnMut(Vec<T>)) -> bool {
    (0..count / GROUP).all(|_| {
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
