//! What is left for the slow path: handshake messages, a bounded number, peers to initiate with, and peers to flush.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_net::udp::LocalAddr;
use adit_proto::limits::MAX_QUEUED_HANDSHAKES;
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

/// There are too many messages already.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// The slow path's inbox. At most [`MAX_QUEUED_HANDSHAKES`] messages, about 1 MiB; a peer is in each of the others once.
#[derive(Default)]
pub(crate) struct Inbox {
    arrivals: Mutex<VecDeque<Arrival>>,
    initiations: Mutex<VecDeque<Arc<Peer>>>,
    flushes: Mutex<VecDeque<Arc<Peer>>>,
}

impl Inbox {
    /// Adds a message, or drops it when there are too many. Returns whether the slow path has to be woken.
    pub(crate) fn push_arrival(&self, arrival: Arrival) -> Result<bool, Full> {
        let mut arrivals = self.arrivals.locked();
        if arrivals.len() >= MAX_QUEUED_HANDSHAKES {
            return Err(Full);
        }
        arrivals.push_back(arrival);
        Ok(arrivals.len() == 1)
    }

    /// The oldest message, and how many were waiting, itself included.
    pub(crate) fn pop_arrival(&self) -> Option<(Arrival, usize)> {
        let mut arrivals = self.arrivals.locked();
        let waiting = arrivals.len();
        Some((arrivals.pop_front()?, waiting))
    }

    /// Forgets the messages that wait.
    pub(crate) fn clear_arrivals(&self) {
        self.arrivals.locked().clear();
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
        arrivals.locked().is_empty() && initiations.locked().is_empty() && flushes.locked().is_empty()
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
        let pushed: Vec<_> = (0..2 * MAX_QUEUED_HANDSHAKES).map(|_| inbox.push_arrival(arrival())).collect();
        assert_eq!(pushed[0], Ok(true));
        assert!(pushed[1..MAX_QUEUED_HANDSHAKES].iter().all(|pushed| *pushed == Ok(false)));
        assert!(pushed[MAX_QUEUED_HANDSHAKES..].iter().all(|pushed| *pushed == Err(Full)));
        for waiting in (1..=MAX_QUEUED_HANDSHAKES).rev() {
            assert_eq!(inbox.pop_arrival().map(|(_, waiting)| waiting), Some(waiting));
        }
        assert!(inbox.pop_arrival().is_none());
        assert_eq!(inbox.push_arrival(arrival()), Ok(true), "it sleeps again");
    }
}
