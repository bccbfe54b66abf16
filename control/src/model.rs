//! One Get type and one Set type: what the Linux kernel's `WG_CMD_GET_DEVICE` and `WG_CMD_SET_DEVICE` and the
//! `get` and `set` of the text protocol say in their own ways.
//!
//! A [`Get`] is a state: an absent private key, port 0 and fwmark 0 all mean "unset". A [`Set`] is a change:
//! `None` means "leave it as it is", and where a value can be taken away there is a second `Option` inside.

use std::net::SocketAddr;

use adit_crypto::{Secret, x25519};

use crate::{EndpointName, Prefix, PublicKey};

/// A moment as seconds and nanoseconds since the Unix epoch, the resolution both protocols carry.
pub type LastHandshake = (u64, u32);

/// The state of a device at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Get {
    /// The static private key; `None` when unset, in which case no handshake is possible.
    pub private_key: Option<Secret<32>>,
    /// The UDP port; 0 while none has been chosen.
    pub listen_port: u16,
    /// The mark of outgoing encrypted packets; 0 is none.
    pub fwmark: u32,
    /// All peers, each public key once, in no particular order.
    pub peers: Vec<GetPeer>,
}

impl Get {
    /// The public key that belongs to the private key.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        let private = x25519::PrivateKey::new(*self.private_key.as_ref()?.expose());
        Some(PublicKey::new(x25519::public_key(&private)))
    }

    /// Adds a peer of which nothing is known but its name.
    pub(crate) fn push_peer(&mut self, public_key: PublicKey) {
        if self.peers.len() == self.peers.capacity() {
            self.grow();
        }
        self.peers.push(GetPeer::new(public_key));
    }

    /// Makes room for more peers. A `Vec` that grows by itself leaves its old bytes behind in freed memory, preshared
    /// keys among them; the peers that are dropped here wipe theirs.
    fn grow(&mut self) {
        let mut bigger = Vec::with_capacity(16.max(2 * self.peers.capacity()));
        bigger.extend(self.peers.iter_mut().map(|peer| {
            let allowed_ips = std::mem::take(&mut peer.allowed_ips);
            GetPeer { allowed_ips, ..peer.clone() }
        }));
        self.peers = bigger;
    }
}

/// The state of one peer of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetPeer {
    /// Who the peer is.
    pub public_key: PublicKey,
    /// The symmetric key mixed into the handshake; `None` is 32 zero bytes on the wire.
    pub preshared_key: Option<Secret<32>>,
    /// Where its packets go, as configured or as last learned from an authentic packet.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake completed, by the wall clock; `None` if never.
    pub last_handshake: Option<LastHandshake>,
    /// Bytes received from the peer, whole UDP payloads.
    pub rx_bytes: u64,
    /// Bytes sent to the peer, whole UDP payloads.
    pub tx_bytes: u64,
    /// Seconds between persistent keepalives; 0 is off.
    pub persistent_keepalive: u16,
    /// The inner addresses that belong to the peer.
    pub allowed_ips: Vec<Prefix>,
}

impl GetPeer {
    /// A peer of which nothing is known but its name.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            preshared_key: None,
            endpoint: None,
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            persistent_keepalive: 0,
            allowed_ips: Vec::new(),
        }
    }
}

/// A change asked of a device, to be applied from top to bottom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `Some(None)` takes the private key away; it is spelled as 32 zero bytes.
    pub private_key: Option<Option<Secret<32>>>,
    /// The UDP port to move to; 0 asks for any free one.
    pub listen_port: Option<u16>,
    /// The mark of outgoing encrypted packets; 0 takes it away.
    pub fwmark: Option<u32>,
    /// Remove all peers before the sections below are applied.
    pub replace_peers: bool,
    /// The peers' sections in the order given. One public key may head several: a section that removes a peer
    /// followed by one that configures it makes a fresh peer.
    pub peers: Vec<SetPeer>,
}

impl Set {
    /// Whether an endpoint was given by name.
    #[must_use]
    pub fn has_endpoint_names(&self) -> bool {
        self.peers.iter().any(|peer| peer.endpoint_name.is_some())
    }

    /// The same change for a device that knows addresses only.
    #[must_use]
    pub fn without_endpoint_names(&self) -> Set {
        let mut set = self.clone();
        set.peers.iter_mut().for_each(|peer| peer.endpoint_name = None);
        set
    }
}

/// One peer's section of a change. The peer is created if it does not exist, unless one of the flags says
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPeer {
    /// Whom the section is about. A section about the device's own key is ignored.
    pub public_key: PublicKey,
    /// Remove the peer; the rest of the section has no effect.
    pub remove: bool,
    /// Ignore the section if there is no such peer.
    pub update_only: bool,
    /// `Some(None)` takes the preshared key away; it is spelled as 32 zero bytes.
    pub preshared_key: Option<Option<Secret<32>>>,
    /// Where to send from now on.
    pub endpoint: Option<SocketAddr>,
    /// The name that `endpoint` was found by, for an engine that looks it up again when the peer does not answer. With an
    /// endpoint and without a name, an earlier name is forgotten.
    pub endpoint_name: Option<EndpointName>,
    /// Seconds between persistent keepalives; 0 turns them off.
    pub persistent_keepalive: Option<u16>,
    /// Take all allowed IPs from the peer before the changes below are applied.
    pub replace_allowed_ips: bool,
    /// Changes of the allowed IPs, in order.
    pub allowed_ips: Vec<AllowedIpChange>,
}

impl SetPeer {
    /// A section that creates the peer, or leaves it as it is.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            endpoint_name: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}

/// A change of one allowed IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedIpChange {
    /// The prefix now belongs to this peer, whoever had it before.
    Add(Prefix),
    /// If this very prefix belongs to this peer it does no more; another peer's stays.
    Remove(Prefix),
}
