//! What the workers leave for the slow path: handshake messages, a bounded number, and peers to initiate with.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use adit_net::udp::LocalAddr;
use adit_proto::limits::MAX_QUEUED_HANDSHAKES;
use adit_proto::message::HandshakeMessage;

use crate::lock::Lock;
use crate::peer::Peer;

/// A handshake message that was received.
pub(crate) struct Arrival {
    pub(crate) message: HandshakeMessage,
    pub(crate) from: SocketAddr,
    pub(crate) local: Option<LocalAddr>,
}

/// The slow path's inbox. At most [`MAX_QUEUED_HANDSHAKES`] messages, about 1 MiB; a peer is in it once.
#[derive(Default)]
pub(crate) struct Inbox {
    arrivals: Mutex<VecDeque<Arrival>>,
    initiations: Mutex<Vec<Arc<Peer>>>,
}

impl Inbox {
    /// Adds a message, or drops it when there are too many. Returns whether the slow path has to be woken.
    pub(crate) fn push_arrival(&self, arrival: Arrival) -> bool {
        let mut arrivals = self.arrivals.locked();
        if arrivals.len() >= MAX_QUEUED_HANDSHAKES {
            return false;
        }
        arrivals.push_back(arrival);
        arrivals.len() == 1
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
        self.initiations.locked().push(peer);
    }

    pub(crate) fn take_initiations(&self) -> Vec<Arc<Peer>> {
        std::mem::take(&mut *self.initiations.locked())
    }
}
