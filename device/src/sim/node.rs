//! A machine with an engine on it, and what its administrator has told that engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use adit_control::status::Confinement;
use adit_control::{AllowedIpChange, Prefix, PublicKey, Set, SetPeer};
use adit_crypto::Secret;
use adit_proto::handshake::Identity;

use crate::configure::Configuration;
use crate::control::UdpOffloads;
use crate::handshakes::Admission;
use crate::lock::{Lock, Shared};
use crate::slow_path;
use crate::state::Device;
use crate::worker::simulated;

const LISTEN_PORT: u16 = 51820;

/// What an administrator has written about a peer.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) key: PublicKey,
    pub(super) preshared_key: [u8; 32],
    pub(super) endpoint: Option<SocketAddr>,
    /// In seconds.
    pub(super) keepalive: u16,
}

/// What an engine shows of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    pub(super) rx_bytes: u64,
    pub(super) endpoint: Option<SocketAddr>,
}

pub(super) struct Node {
    pub(super) device: Device,
    configuration: Configuration,
    admission: Admission,
    private_key: [u8; 32],
    pub(super) public_key: PublicKey,
    /// By the number of the node that the peer is.
    pub(super) peers: BTreeMap<usize, Known>,
    /// Which prefix is whose.
    pub(super) routes: BTreeMap<Prefix, usize>,
    /// Where its datagrams come from: for a node behind a NAT, the NAT's address.
    pub(super) address: SocketAddr,
    /// How its wall clock differs from the right one, in seconds.
    pub(super) wall_offset: i64,
    pub(super) is_up: bool,
    pub(super) sleeps_until: Option<Duration>,
    /// How many engines it has started.
    pub(super) life: usize,
}

/// A node's address inside the tunnel. It has the /24 around it.
pub(super) fn inner_address(node: usize, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, node as u8, host).into()
}

pub(super) fn inner_prefix(node: usize) -> Prefix {
    Prefix::new(inner_address(node, 0), 24).expect("IPv4 has longer prefixes")
}

pub(super) fn public_key(private_key: [u8; 32]) -> PublicKey {
    PublicKey::new(*Identity::new(&Secret::new(private_key)).public_key())
}

fn engine() -> (Device, Configuration, Admission) {
    let device = Device::new(NonZeroUsize::MIN, None).expect("it gets its descriptors");
    let offloads = UdpOffloads { gso: false, gro: false };
    (device, Configuration::new(NonZeroUsize::MIN, offloads, Confinement::default()), Admission::default())
}

/// Life and configuration.
impl Node {
    pub(super) fn new(private_key: [u8; 32], address: SocketAddr) -> Self {
        let (device, configuration, admission) = engine();
        let mut node = Node {
            device,
            configuration,
            admission,
            private_key,
            public_key: public_key(private_key),
            peers: BTreeMap::new(),
            routes: BTreeMap::new(),
            address,
            wall_offset: 0,
            is_up: false,
            sleeps_until: None,
            life: 0,
        };
        node.restart();
        node
    }

    /// The engine dies, and another one is started with what the administrator knows.
    pub(super) fn restart(&mut self) {
        (self.device, self.configuration, self.admission) = engine();
        self.life += 1;
        self.is_up = false;
        let private_key = Some(Some(Secret::new(self.private_key)));
        let peers = self.peers.keys().map(|peer| self.section(*peer)).collect();
        self.apply(Set { private_key, listen_port: Some(LISTEN_PORT), peers, ..Set::default() });
        self.up();
    }

    pub(super) fn up(&mut self) {
        self.configuration.interface_up(&self.device);
        self.is_up = true;
    }

    pub(super) fn down(&mut self) {
        self.configuration.interface_down(&self.device);
        self.is_up = false;
    }

    fn apply(&mut self, set: Set) {
        self.configuration.apply(&self.device, set).expect("nothing here can fail");
    }

    fn apply_peer(&mut self, section: SetPeer) {
        self.apply(Set { peers: vec![section], ..Set::default() });
    }

    /// All that is known about a peer.
    fn section(&self, peer: usize) -> SetPeer {
        let known = &self.peers[&peer];
        let own = self.routes.iter().filter(|(_, owner)| **owner == peer);
        SetPeer {
            preshared_key: Some(Some(Secret::new(known.preshared_key))),
            endpoint: known.endpoint,
            persistent_keepalive: Some(known.keepalive),
            replace_allowed_ips: true,
            allowed_ips: own.map(|(prefix, _)| AllowedIpChange::Add(*prefix)).collect(),
            ..SetPeer::new(known.key)
        }
    }

    pub(super) fn set_private_key(&mut self, private_key: [u8; 32]) {
        (self.private_key, self.public_key) = (private_key, public_key(private_key));
        self.apply(Set { private_key: Some(Some(Secret::new(private_key))), ..Set::default() });
    }

    pub(super) fn private_key(&self) -> [u8; 32] {
        self.private_key
    }

    pub(super) fn add_peer(&mut self, peer: usize, known: Known) {
        self.peers.insert(peer, known);
        self.routes.insert(inner_prefix(peer), peer);
        let section = self.section(peer);
        self.apply_peer(section);
    }

    pub(super) fn remove_peer(&mut self, peer: usize) {
        let Some(known) = self.peers.remove(&peer) else { return };
        self.routes.retain(|_, owner| *owner != peer);
        self.apply_peer(SetPeer { remove: true, ..SetPeer::new(known.key) });
    }

    pub(super) fn set_preshared_key(&mut self, peer: usize, key: [u8; 32]) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.preshared_key = key;
        let preshared_key = Some(Some(Secret::new(key)));
        let section = SetPeer { preshared_key, ..SetPeer::new(known.key) };
        self.apply_peer(section);
    }

    pub(super) fn set_endpoint(&mut self, peer: usize, endpoint: SocketAddr) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.endpoint = Some(endpoint);
        let section = SetPeer { endpoint: Some(endpoint), ..SetPeer::new(known.key) };
        self.apply_peer(section);
    }

    pub(super) fn set_keepalive(&mut self, peer: usize, seconds: u16) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.keepalive = seconds;
        let section = SetPeer { persistent_keepalive: Some(seconds), ..SetPeer::new(known.key) };
        self.apply_peer(section);
    }

    /// Gives a prefix to `peer`, whoever had it.
    pub(super) fn give(&mut self, prefix: Prefix, peer: usize) {
        let Some(known) = self.peers.get(&peer) else { return };
        let section = SetPeer { allowed_ips: vec![AllowedIpChange::Add(prefix)], ..SetPeer::new(known.key) };
        self.routes.insert(prefix, peer);
        self.apply_peer(section);
    }

    /// Takes a prefix away from its owner.
    pub(super) fn take(&mut self, prefix: Prefix) {
        let Some(peer) = self.routes.remove(&prefix) else { return };
        let key = self.peers[&peer].key;
        let allowed_ips = vec![AllowedIpChange::Remove(prefix)];
        self.apply_peer(SetPeer { allowed_ips, ..SetPeer::new(key) });
    }

    /// Whose an address is: of all prefixes that contain it, the longest one's.
    pub(super) fn route(&self, address: IpAddr) -> Option<usize> {
        let containing = self.routes.iter().filter(|(prefix, _)| prefix.contains(address));
        containing.max_by_key(|(prefix, _)| prefix.len()).map(|(_, peer)| *peer)
    }
}

/// Packets and time.
impl Node {
    pub(super) fn is_awake(&self) -> bool {
        self.sleeps_until.is_none()
    }

    /// Whether it takes datagrams and packets.
    pub(super) fn is_there(&self) -> bool {
        self.is_up && self.is_awake()
    }

    /// Its applications send.
    pub(super) fn send(&mut self, packets: &[Vec<u8>]) {
        simulated::send(&self.device, packets);
        self.work();
    }

    /// A train of datagrams comes in. The slow path has not seen it yet.
    pub(super) fn receive(&mut self, from: SocketAddr, train: &[u8], stride: usize) -> Vec<Vec<u8>> {
        simulated::receive(&self.device, from, train, stride)
    }

    /// The slow path does what is to be done.
    pub(super) fn work(&mut self) {
        while slow_path::work(&self.device, &mut self.admission) {}
        assert!(self.device.inbox.is_empty(), "the slow path left something to do");
    }

    /// When its timer wakes it.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.device.deadlines.pending().0.map(|at| Duration::from_nanos(at.as_nanos()))
    }

    /// What it shows of its peers.
    pub(super) fn shown(&self) -> BTreeMap<usize, Shown> {
        let device_peers = self.device.peers.shared();
        let shown = self.peers.iter().filter_map(|(number, known)| {
            let peer = device_peers.get(&known.key)?;
            let rx_bytes = peer.rx_bytes.load(std::sync::atomic::Ordering::Relaxed);
            let endpoint = peer.session.locked().endpoint().map(|endpoint| endpoint.addr);
            Some((*number, Shown { rx_bytes, endpoint }))
        });
        shown.collect()
    }
}
