//! What is left for the slow path: handshake messages, a bounded number, peers to initiate with, and peers to flush.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_net::udp::LocalAddr;
use adit_proto::limits::{MAX_QUEUED_HANDSHAKES, MAX_QUEUED_PROVEN, MAX_QUEUED_REPLIES};
use adit_proto::message::HandshakeMessage;

use crate::lock::Lock;
use crate::peer::Peer;
use crate::sync::Mutex;

/// A handshake message that was received.
pub(crate) struct Arrival {
    pub(crate) message: HandshakeMessage,
    pub(crate) from: SocketAddr,
    pub(crate) local: Option<LocalAddr>,
}

/// Who waits with whom. Those who have shown a cookie neither wait behind those who have not, nor are they dropped for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// mac2 is valid: the sender receives where the message came from.
    Proven,
    /// mac1 alone is.
    Unproven,
    /// Cookie replies, which have neither. They name an index in use, that is all.
    Replies,
}

impl Lane {
    /// Messages that it holds.
    fn room(self) -> usize {
        match self {
            Lane::Proven => MAX_QUEUED_PROVEN,
            Lane::Unproven => MAX_QUEUED_HANDSHAKES,
            Lane::Replies => MAX_QUEUED_REPLIES,
        }
    }
}

/// There are too many messages already.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// By lane.
type Arrivals = [VecDeque<Arrival>; 3];

/// The slow path's inbox. At most as many messages as its lanes have room for, about 1 MiB; a peer is in each of the others once.
#[derive(Default)]
pub(crate) struct Inbox {
    arrivals: Mutex<Arrivals>,
    initiations: Mutex<VecDeque<Arc<Peer>>>,
    flushes: Mutex<VecDeque<Arc<Peer>>>,
}

/// Cookie replies cost their sender nothing: how many there are is no sign of load.
fn waiting(arrivals: &Arrivals) -> usize {
    arrivals[Lane::Proven as usize].len() + arrivals[Lane::Unproven as usize].len()
}

impl Inbox {
    /// Adds a message, or drops it when there are too many in its lane. Returns whether the slow path has to be woken.
    pub(crate) fn push_arrival(&self, lane: Lane, arrival: Arrival) -> Result<bool, Full> {
        match self.push_arrivals([(lane, arrival)].into_iter()) {
            (has_to_be_woken, 0) => Ok(has_to_be_woken),
            _ => Err(Full),
        }
    }

    /// The same for several; returns how many were dropped, too.
    pub(crate) fn push_arrivals(&self, arriving: impl Iterator<Item = (Lane, Arrival)>) -> (bool, usize) {
        let mut arrivals = self.arrivals.locked();
        let (mut has_to_be_woken, mut dropped) = (false, 0);
        for (lane, arrival) in arriving {
            let queue = &mut arrivals[lane as usize];
            if queue.len() < lane.room() {
                // For each lane: the slow path may be done with this one, and rest once another is empty.
                has_to_be_woken |= queue.is_empty();
                queue.push_back(arrival);
            } else {
                dropped += 1;
            }
        }
        (has_to_be_woken, dropped)
    }

    /// The oldest message of a lane, and how many were waiting, itself included.
    pub(crate) fn pop_arrival(&self, lane: Lane) -> Option<(Arrival, usize)> {
        let mut arrivals = self.arrivals.locked();
        let waiting = waiting(&arrivals);
        Some((arrivals[lane as usize].pop_front()?, waiting))
    }

    /// Forgets the messages that wait.
    pub(crate) fn clear_arrivals(&self) {
        self.arrivals.locked().iter_mut().for_each(VecDeque::clear);
    }

    /// Asks for an initiation to `peer`; the session makes sure that it is asked for once.
    pub(crate) fn push_initiation(&self, peer: Arc<Peer>) {
        self.initiations.locked().push_back(peer);
    }

    pub(crate) fn pop_initiation(&self) -> Option<Arc<Peer>> {
        self.initiations.locked().pop_front()
    }

    /// Asks for the rest of what `peer` has staged to be sent.
    pub(crate) fn push_flush(&self, peer: Arc<Peer>) {
        let mut flushes = self.flushes.locked();
        if !flushes.iter().any(|waiting| Arc::ptr_eq(waiting, &peer)) {
            flushes.push_back(peer);
        }
    }

    /// Whether nothing is left.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let Inbox { arrivals, initiations, flushes } = self;
        arrivals.locked().iter().all(VecDeque::is_empty)
            && initiations.locked().is_empty()
            && flushes.locked().is_empty()
    }

    pub(crate) fn pop_flush(&self) -> Option<Arc<Peer>> {
        self.flushes.locked().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use adit_proto::message::Message;

    use super::*;

    fn arrival() -> Arrival {
        let mut bytes = [0; 148];
        bytes[0] = 1;
        let Some(Message::Handshake(message)) = Message::parse(&bytes) else { panic!("an initiation") };
        Arrival { message, from: ([192, 0, 2, 1], 1000).into(), local: None }
    }

    /// amneziawg-linux-kernel-module issue 188: every message of a stranger notified somebody.
    #[test]
    fn a_flood_wakes_the_slow_path_once_and_takes_no_more_than_its_room() {
        let inbox = Inbox::default();
        let push = |_| inbox.push_arrival(Lane::Unproven, arrival());
        let pushed: Vec<_> = (0..2 * MAX_QUEUED_HANDSHAKES).map(push).collect();
        assert_eq!(pushed[0], Ok(true));
        assert!(pushed[1..MAX_QUEUED_HANDSHAKES].iter().all(|pushed| *pushed == Ok(false)));
        assert!(pushed[MAX_QUEUED_HANDSHAKES..].iter().all(|pushed| *pushed == Err(Full)));
        for waiting in (1..=MAX_QUEUED_HANDSHAKES).rev() {
            assert_eq!(inbox.pop_arrival(Lane::Unproven).map(|(_, waiting)| waiting), Some(waiting));
        }
        assert!(inbox.pop_arrival(Lane::Unproven).is_none());
        assert_eq!(push(0), Ok(true), "it sleeps again");
    }

    /// It asks one lane after the other: what comes to the first while it is at the last must not wait for a timer.
    #[test]
    fn each_lane_wakes_the_slow_path() {
        let inbox = Inbox::default();
        for lane in [Lane::Unproven, Lane::Proven, Lane::Replies] {
            assert_eq!(inbox.push_arrival(lane, arrival()), Ok(true), "{lane:?}");
            assert_eq!(inbox.push_arrival(lane, arrival()), Ok(false), "{lane:?}");
        }
    }

    #[test]
    fn nobody_takes_the_room_of_another_lane() {
        let inbox = Inbox::default();
        let lanes = [
            (Lane::Replies, MAX_QUEUED_REPLIES),
            (Lane::Unproven, MAX_QUEUED_HANDSHAKES),
            (Lane::Proven, MAX_QUEUED_PROVEN),
        ];
        for (lane, room) in lanes {
            let pushed = (0..2 * room).filter(|_| inbox.push_arrival(lane, arrival()).is_ok()).count();
            assert_eq!(pushed, room, "{lane:?}");
        }
        let waiting = |lane| inbox.pop_arrival(lane).map(|(_, waiting)| waiting);
        let all = MAX_QUEUED_HANDSHAKES + MAX_QUEUED_PROVEN;
        assert_eq!(waiting(Lane::Replies), Some(all), "replies are no load");
        assert_eq!(waiting(Lane::Proven), Some(all));
        assert_eq!(waiting(Lane::Unproven), Some(all - 1));
    }
}
