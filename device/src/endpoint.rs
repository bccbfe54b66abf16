//! Where a peer is: its address, and ours from which it is reached (whitepaper 2.1).

use std::net::SocketAddr;

use adit_net::udp::LocalAddr;
use adit_proto::session;

/// A peer's endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The peer's address.
    pub(crate) addr: SocketAddr,
    /// The local address that the peer sent to, from which answers leave (*sticky source*).
    pub(crate) local: Option<LocalAddr>,
    /// Whether they do: not when the route has turned away from there. `local` is kept then, for the peer's packets to
    /// it that are still under way must not bring it back.
    pub(crate) is_pinned: bool,
    /// Up to which change of the routes `is_pinned` is known to be right; see [`crate::send`].
    pub(crate) routes_seen: u64,
}

impl Endpoint {
    /// An endpoint by configuration: the kernel chooses the source.
    pub(crate) fn configured(addr: SocketAddr) -> Self {
        Endpoint { addr, local: None, is_pinned: false, routes_seen: 0 }
    }

    /// The source to send from; `None` leaves it to the kernel.
    pub(crate) fn source(&self) -> Option<&LocalAddr> {
        self.local.as_ref().filter(|_| self.is_pinned)
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.addr == other.addr && self.local == other.local
    }
}

impl session::Endpoint for Endpoint {
    fn clear_source(&mut self) {
        self.local = None;
    }
}
