//! Sending what is staged: packets that waited for a session, and keepalives.

use std::sync::Arc;

use adit_net::packet;
use adit_net::udp::Bound;
use adit_proto::keypair::{MAX_TRAIN, padded_len};
use adit_proto::limits::MAX_STAGED_PACKETS;
use adit_proto::message::{DATA_HEADER_LEN, DATA_OVERHEAD};
use adit_proto::session::{Batch, Grant, NotReady};

use crate::endpoint::Endpoint;
use crate::lock::Lock;
use crate::outside::rng;
use crate::peer::Peer;
use crate::state::Device;

/// Batches that one flush sends: all that can be staged at a time. Who stages faster than this sends, as a worker does
/// that reads a blast of UDP, would otherwise keep the slow path here, and from everybody else's handshakes.
const MAX_BATCHES: usize = MAX_STAGED_PACKETS.div_ceil(MAX_TRAIN);

impl Device {
    /// Sends what `peer` has staged, or asks for a handshake. Packets stay in order: one thread at a time does this for
    /// a peer, and meanwhile the others stage behind it.
    pub(crate) fn flush(&self, peer: &Arc<Peer>) {
        let Some(sockets) = self.sockets() else { return };
        let mut session = peer.session.locked();
        let Some(mut flush) = session.begin_flush() else { return };
        for _ in 0..MAX_BATCHES {
            let next = session.next_batch(flush, Self::now(), &mut rng());
            self.schedule(peer, &mut session);
            drop(session);
            match next {
                Ok((continued, batch)) => {
                    flush = continued;
                    self.send_batch(peer, &sockets, batch);
                }
                Err(NotReady::NoKeypair { initiate: true }) => return self.initiate(peer),
                Err(_) => return,
            }
            session = peer.session.locked();
        }
        if session.end_flush(flush) {
            drop(session);
            self.inbox.push_flush(peer.clone());
            self.slow_path.wake();
        }
    }

    /// Sends a keepalive, or what is staged in its place.
    pub(crate) fn send_keepalive(&self, peer: &Arc<Peer>) {
        peer.session.locked().keepalive();
        self.flush(peer);
    }

    /// Each packet a train of its own: few are ever staged, and they may differ in everything.
    fn send_batch(&self, peer: &Arc<Peer>, sockets: &Bound, batch: Batch<Endpoint>) {
        let Batch { packets, grant } = batch;
        let Grant { keypair, mut nonces, endpoint, initiate } = grant;
        let mut train = Vec::new();
        for packet in packets {
            let padded = padded_len(packet.len(), self.mtu());
            train.clear();
            train.resize(padded + DATA_OVERHEAD, 0);
            train[DATA_HEADER_LEN..][..packet.len()].copy_from_slice(&packet);
            let ecn = packet::parse(&packet).map_or(0, |ip| packet::ecn_encap(ip.tos));
            let stride = train.len();
            keypair.seal_train(nonces.take(1), &mut train, stride);
            if let Some(endpoint) = &endpoint {
                self.send(peer, endpoint.clone(), (sockets, 0), &train, stride, ecn);
            }
        }
        if initiate {
            self.initiate(peer);
        }
    }
}
