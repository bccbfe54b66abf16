//! Sending to a peer: sealed trains and handshake messages go out here, whichever thread has them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_control::Reason;
use adit_net::udp::{Bound, Outbound, SendReport, is_no_room};

use crate::endpoint::Endpoint;
use crate::lock::Lock;
use crate::outside;
use crate::peer::Peer;
use crate::state::Device;
use crate::why::Note;
use crate::worker::train::Train;

/// The index that Linux gives to the loopback interface.
const LOOPBACK: u32 = 1;

impl Device {
    /// Sends a finished train. `tos` is the outer header's byte; `sockets` are the device's and which worker's to use.
    pub(crate) fn send(
        &self,
        peer: &Arc<Peer>,
        mut endpoint: Endpoint,
        (bound, worker): (&Bound, usize),
        train: &[u8],
        stride: usize,
        tos: u8,
    ) {
        self.check_source(peer, &mut endpoint);
        let pair = &bound.sockets[worker];
        match outside::send(pair, &endpoint.addr, endpoint.source(), tos, train, stride) {
            Some(report) => self.sent(peer, &endpoint, &report),
            None => self.no_socket(peer, &endpoint),
        }
    }

    /// Sends finished trains, which are in `buffer`; those for the same peer in this order.
    pub(crate) fn send_all(&self, trains: &mut [Train], buffer: &[u8], (bound, worker): (&Bound, usize)) {
        for train in &mut *trains {
            self.check_source(&train.peer, &mut train.endpoint);
        }
        let is_v6 = |train: &Train| train.endpoint.addr.is_ipv6();
        trains.sort_unstable_by_key(|train| (is_v6(train), train.start()));
        for trains in trains.chunk_by(|one, next| is_v6(one) == is_v6(next)) {
            let Some(socket) = bound.sockets[worker].for_addr(&trains[0].endpoint.addr) else {
                trains.iter().for_each(|train| self.no_socket(&train.peer, &train.endpoint));
                continue;
            };
            socket.send_all(
                trains,
                |train| Outbound {
                    to: &train.endpoint.addr,
                    from: train.endpoint.source(),
                    tos: train.ecn,
                    train: train.messages(buffer),
                    stride: train.stride,
                },
                |train, report| self.sent(&train.peer, &train.endpoint, &report),
            );
        }
    }

    fn sent(&self, peer: &Peer, endpoint: &Endpoint, report: &SendReport) {
        peer.sent(report.bytes);
        if let Some(error) = &report.error {
            log::debug!("{peer}: sending to {} failed: {error}", endpoint.addr);
            let reason = if is_no_room(error) { Reason::SendFull } else { Reason::EndpointUnreachable };
            let note = Note::new(reason).peer(peer).at(endpoint.addr).errno(error.raw_os_error());
            self.note(note.times(report.dropped));
        }
        self.forget_lost_source(peer, endpoint, report);
    }

    fn forget_lost_source(&self, peer: &Peer, endpoint: &Endpoint, report: &SendReport) {
        if report.source_lost {
            let mut session = peer.session.locked();
            if session.endpoint() == Some(endpoint) {
                session.clear_source();
            }
        }
    }

    /// The source that a peer wrote to stays only while packets from it leave by the interface that it was found on:
    /// when the route has changed since, a better source is the kernel's to choose. The kernel's own WireGuard looks
    /// the route up when its cached one becomes invalid; so does this, once for each change and peer that sends.
    fn check_source(&self, peer: &Peer, endpoint: &mut Endpoint) {
        let Some(local) = endpoint.local else { return };
        let changed = self.routes_changed.load(Relaxed);
        if endpoint.routes_seen == changed {
            return;
        }
        let fwmark = self.fwmark.load(Relaxed);
        let route = self.route_lookup.locked().route(endpoint.addr.ip(), Some(local.ip), fwmark);
        let is_pinned = match route {
            Ok(Some(route)) => local.ip.is_ipv6() || [local.ifindex, LOOPBACK].contains(&route.ifindex),
            Ok(None) => false,
            // Unknown; the send will tell.
            Err(_) => true,
        };
        let seen = Endpoint { routes_seen: changed, is_pinned, ..endpoint.clone() };
        let mut session = peer.session.locked();
        if session.endpoint() == Some(endpoint) {
            session.set_endpoint(seen.clone());
        }
        *endpoint = seen;
    }

    fn no_socket(&self, peer: &Peer, endpoint: &Endpoint) {
        log::debug!("{peer}: no socket for {}: this host lacks the address family", endpoint.addr);
        let note = Note::new(Reason::EndpointUnreachable).peer(peer).at(endpoint.addr);
        self.note(note.errno(Some(adit_net::udp::NO_ADDRESS_FAMILY)));
    }
}
