//! Two engines in memory, each the other's peer. The near one is what a model is about; the far one tells whether what it
//! sent is right, while nobody else runs.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use adit_control::status::Confinement;
use adit_control::{AllowedIpChange, Prefix, PublicKey, Set, SetPeer};
use adit_crypto::Secret;
use adit_proto::handshake::Identity;
use adit_proto::message::Message;

use crate::configure::Configuration;
use crate::control::UdpOffloads;
use crate::handshakes::Admission;
use crate::lock::Shared;
use crate::outside::{self, Sent};
use crate::peer::Peer;
use crate::slow_path;
use crate::state::Device;
use crate::worker::simulated;

/// When scenes begin, after boot and on the wall's clock.
const START: Duration = Duration::from_secs(1000);
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Near,
    Far,
}

impl Side {
    fn number(self) -> u8 {
        match self {
            Side::Near => 1,
            Side::Far => 2,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Side::Near => Side::Far,
            Side::Far => Side::Near,
        }
    }

    fn identity(self) -> Identity {
        Identity::new(&Secret::new([self.number(); 32]))
    }

    pub(super) fn key(self) -> PublicKey {
        PublicKey::new(*self.identity().public_key())
    }

    /// Where its datagrams come from.
    pub(super) fn address(self) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, self.number()), 51820).into()
    }

    fn inner(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, self.number())
    }
}

/// An engine, which threads share.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) device: Arc<Device>,
    side: Side,
}

pub(super) struct Scene {
    pub(super) near: Engine,
    pub(super) far: Engine,
    /// What the near engine's control thread has.
    pub(super) configuration: Configuration,
    /// The time since boot.
    now: Duration,
    /// Kept until the end: engines on this thread live in the simulation.
    _outside: outside::Guard,
}

fn engine(side: Side) -> (Engine, Configuration) {
    let device = Device::new(NonZeroUsize::MIN, None).expect("it gets its descriptors");
    let offloads = UdpOffloads { gso: false, gro: false };
    let mut configuration = Configuration::new(NonZeroUsize::MIN, offloads, Confinement::default());
    let other = side.other();
    let prefix = Prefix::new(IpAddr::V4(other.inner()), 32).expect("an address's length");
    let peer = SetPeer {
        endpoint: Some(other.address()),
        allowed_ips: vec![AllowedIpChange::Add(prefix)],
        ..SetPeer::new(other.key())
    };
    let private_key = Some(Some(Secret::new([side.number(); 32])));
    let set = Set { private_key, listen_port: Some(51820), peers: vec![peer], ..Set::default() };
    configuration.apply(&device, set).expect("nothing here can fail");
    configuration.interface_up(&device);
    (Engine { device: Arc::new(device), side }, configuration)
}

impl Scene {
    /// Both are up, and have not talked yet.
    pub(super) fn new() -> Self {
        let outside = outside::Guard::new(1);
        outside::set_clocks(START, EPOCH);
        let ((near, configuration), (far, _)) = (engine(Side::Near), engine(Side::Far));
        Scene { near, far, configuration, now: START, _outside: outside }
    }

    /// They have a session that `initiator` has begun; both may send.
    pub(super) fn talking(initiator: Side) -> Self {
        let scene = Self::new();
        scene.engine(initiator).send(&[0]);
        scene.engine(initiator).work();
        let delivered = scene.carry();
        assert_eq!(delivered, [(initiator.other(), 0)]);
        scene.engine(initiator.other()).send(&[0]);
        assert_eq!(scene.carry(), [(initiator, 0)]);
        scene
    }

    pub(super) fn engine(&self, side: Side) -> &Engine {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }

    pub(super) fn later(&mut self, by: Duration) {
        self.now += by;
        outside::set_clocks(self.now, EPOCH + self.now);
    }

    /// Carries what was sent until nobody says anything; what is delivered meanwhile, and to whom. To be called while
    /// nobody else runs.
    pub(super) fn carry(&self) -> Vec<(Side, u8)> {
        let mut delivered = Vec::new();
        loop {
            let sent = outside::take_sent();
            if sent.is_empty() {
                return delivered;
            }
            delivered.extend(self.deliver(sent));
        }
    }

    /// Carries these.
    pub(super) fn deliver(&self, sent: Vec<Sent>) -> Vec<(Side, u8)> {
        let mut delivered = Vec::new();
        for datagram in sent {
            let to = [Side::Near, Side::Far].into_iter().find(|side| side.address() == datagram.to);
            let to = to.expect("nobody else has an endpoint");
            delivered.extend(self.engine(to).receive(&datagram).into_iter().map(|number| (to, number)));
            self.engine(to).work();
        }
        delivered
    }

    /// The numbers of the packets from near that come through.
    pub(super) fn arrived(&self) -> Vec<u8> {
        let delivered = self.carry().into_iter();
        delivered.filter(|(to, _)| *to == Side::Far).map(|(_, number)| number).collect()
    }
}

impl Engine {
    /// The only peer, while it has it.
    pub(super) fn peer(&self) -> Arc<Peer> {
        let peers = self.device.peers.shared();
        peers.values().next().expect("it has a peer").clone()
    }

    /// A worker sends packets with these numbers, which come out of the interface at a time.
    pub(super) fn send(&self, numbers: &[u8]) {
        let packets: Vec<_> = numbers.iter().map(|number| self.packet(*number)).collect();
        simulated::send(&self.device, &packets);
        if self.side == Side::Far {
            self.work();
        }
    }

    /// A worker receives a datagram; the numbers of the packets that are delivered.
    pub(super) fn receive(&self, datagram: &Sent) -> Vec<u8> {
        let from = self.side.other().address();
        let packets = simulated::receive(&self.device, from, &datagram.bytes, datagram.bytes.len());
        packets.iter().map(|packet| packet[20]).collect()
    }

    /// The slow path does what is to be done.
    pub(super) fn work(&self) {
        let mut admission = Admission::default();
        while slow_path::work(&self.device, &mut admission) {}
    }

    /// IPv4 to the other, with a number.
    fn packet(&self, number: u8) -> Vec<u8> {
        let mut packet = vec![0; 32];
        (packet[0], packet[3], packet[8]) = (0x45, 32, 64);
        packet[12..16].copy_from_slice(&self.side.inner().octets());
        packet[16..20].copy_from_slice(&self.side.other().inner().octets());
        packet[20] = number;
        packet
    }
}

/// The receiver's index and the counter of each message of data; none may be twice.
pub(super) fn nonces(sent: &[Sent]) -> Vec<(u32, u64)> {
    let headers = sent.iter().filter_map(|datagram| match Message::parse(&datagram.bytes) {
        Some(Message::Data(header)) => Some((header.receiver, header.counter)),
        _ => None,
    });
    let nonces: Vec<_> = headers.collect();
    let different: HashSet<_> = nonces.iter().collect();
    assert_eq!(different.len(), nonces.len(), "a nonce was used twice: {nonces:?}");
    nonces
}
