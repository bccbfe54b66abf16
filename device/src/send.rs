//! Sending to a peer: sealed trains and handshake messages go out here, whichever thread has them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_net::udp::{Bound, SendReport};

use crate::endpoint::Endpoint;
use crate::lock::Lock;
use crate::peer::Peer;
use crate::state::Device;

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
        let Some(socket) = bound.sockets[worker].for_addr(&endpoint.addr) else {
            log::debug!("{peer}: no socket for {}: this host lacks the address family", endpoint.addr);
            return;
        };
        let report = socket.send(&endpoint.addr, endpoint.source(), tos, train, stride);
        peer.sent(report.bytes);
        if let Some(error) = &report.error {
            log::debug!("{peer}: sending to {} failed: {error}", endpoint.addr);
        }
        self.forget_lost_source(peer, &endpoint, &report);
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
}
