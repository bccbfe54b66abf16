//! What must hold, whatever happens. The ledger sees all that is sent and that arrives, and knows who made what.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use adit_control::PublicKey;
use adit_net::packet::IPV4_HEADER_LEN;
use adit_proto::cookie::Mac1Key;
use adit_proto::limits::{
    ERASE_KEYS_AFTER, INITIATIONS_PER_SECOND, MAX_STAGED_IN_ALL, MAX_STAGED_PACKETS, REJECT_AFTER_TIME,
    REKEY_TIMEOUT, UNDER_LOAD_STICKY,
};
use adit_proto::message::{HandshakeMessage, INITIATION_LEN, Message, RESPONSE_LEN};

use super::node::{Node, Shown};
use crate::lock::{Lock, Shared};

/// A peer's pending initiation and its three sessions.
const MAX_INDICES: usize = 4;
/// A peer's entries among the deadlines. Those that were superseded stay until their time comes, in nine minutes at the
/// latest, and every second something may be due earlier: keepalives have no shorter interval.
const MAX_DEADLINES: usize = ERASE_KEYS_AFTER.as_secs() as usize + 60;
/// The shortest inner packet: a header and a number.
pub(super) const MIN_PACKET: usize = IPV4_HEADER_LEN + 4;

/// A packet that was sent through the tunnel.
struct Packet {
    from: usize,
    /// The peer that it was sent to, by what its sender was told.
    to: Option<usize>,
    source: IpAddr,
    bytes: Vec<u8>,
    at: Duration,
    is_delivered: bool,
}

#[derive(Default)]
pub(super) struct Ledger {
    packets: Vec<Packet>,
    /// From this packet on, none may overtake another.
    ordered_from: Option<usize>,
    /// By who sent it and who got it: the last of these that was delivered.
    last: HashMap<(usize, usize), usize>,
    /// Who made a message.
    makers: HashMap<u64, usize>,
    /// Initiations and responses that carry a mac2 of their maker's, whole.
    with_mac2: HashSet<u64>,
    /// By node and life: what had an effect.
    accepted: HashSet<(usize, usize, u64)>,
    /// By node: what it sealed with which key, which is named by the receiver's index.
    nonces: HashSet<(usize, u32, u64)>,
    /// By node and receiver's index: since when at the latest it has the key that it sends with.
    sending: HashMap<(usize, u32), Duration>,
    /// By node and receiver's index: keys that it must not send with any more.
    void: HashSet<(usize, u32)>,
    /// By node: addresses that it has sent a cookie.
    cookies: HashSet<(usize, SocketAddr)>,
    /// By node and the other's index: its own index of a session that it has answered with, and the other not used.
    unconfirmed: HashMap<(usize, u32), u32>,
    /// By node and peer: when it last sent an initiation.
    initiations: HashMap<(usize, PublicKey), Duration>,
    /// By node and peer: when it last sent a response.
    responses: HashMap<(usize, usize), Duration>,
    /// By node: until when it is under load.
    loaded_until: BTreeMap<usize, Duration>,
    /// Indices that the attacker has put into others' messages: they name several sessions.
    ambiguous: HashSet<u32>,
    mac1_keys: Vec<(PublicKey, Mac1Key)>,
    digest: DefaultHasher,
    pub(super) counts: Counts,
}

/// What happened: a simulation in which little does proves little.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) datagrams: usize,
    pub(super) initiations: usize,
    pub(super) responses: usize,
    pub(super) cookies: usize,
    pub(super) delivered: usize,
    pub(super) roamed: usize,
}

/// A train of datagrams that has arrived somewhere.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) from: SocketAddr,
    pub(super) train: &'a [u8],
    pub(super) stride: usize,
}

impl<'a> Arrival<'a> {
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> {
        self.train.chunks(self.stride.max(1))
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Names a message by what of it is authentic. In handshake messages the indices are not, nor is mac1, which anybody can
/// make who knows the public key, nor mac2, which matters only under load.
fn name(datagram: &[u8]) -> u64 {
    hash(match (datagram.first(), datagram.len()) {
        (Some(1), INITIATION_LEN) => &datagram[8..116],
        (Some(2), RESPONSE_LEN) => &datagram[12..60],
        _ => datagram,
    })
}

fn has_mac2(datagram: &[u8]) -> bool {
    datagram[datagram.len() - 16..] != [0; 16]
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// Packets.
impl Ledger {
    /// Makes a packet of at least `len` bytes.
    pub(super) fn packet(
        &mut self,
        at: Duration,
        (from, to): (usize, Option<usize>),
        (source, destination): (IpAddr, IpAddr),
        len: usize,
    ) -> Vec<u8> {
        let (IpAddr::V4(source_v4), IpAddr::V4(destination)) = (source, destination) else {
            panic!("the inner network is IPv4");
        };
        let number = self.packets.len() as u32;
        let mut bytes: Vec<u8> = (0..len.max(MIN_PACKET)).map(|i| (i as u32 + number * 7) as u8).collect();
        bytes[..IPV4_HEADER_LEN].fill(0);
        bytes[0] = 0x45;
        let total_len = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&total_len);
        bytes[12..16].copy_from_slice(&source_v4.octets());
        bytes[16..20].copy_from_slice(&destination.octets());
        bytes[20..24].copy_from_slice(&number.to_be_bytes());
        self.packets.push(Packet { from, to, source, bytes: bytes.clone(), at, is_delivered: false });
        bytes
    }

    /// `node` delivered a packet: somebody has sent it there, once, and may send from where it comes from.
    pub(super) fn delivered(&mut self, at: usize, node: &Node, bytes: &[u8]) {
        self.counts.delivered += 1;
        hash_into(&mut self.digest, (at, bytes));
        let number = bytes.get(20..24).map_or(u32::MAX, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let packet = self.packets.get_mut(number as usize).expect("what is delivered was sent");
        assert!(packet.bytes == bytes, "packet {number} is delivered as it was sent");
        assert_eq!(packet.to, Some(at), "packet {number} was not sent to node {at}");
        assert!(!packet.is_delivered, "packet {number} is delivered to node {at} twice");
        let owner = node.route(packet.source);
        assert_eq!(owner, Some(packet.from), "node {at} takes from {} what is not its own", packet.from);
        packet.is_delivered = true;
        let number = number as usize;
        if self.ordered_from.is_some_and(|first| number >= first) {
            let before = self.last.insert((packet.from, at), number);
            assert!(before < Some(number), "packet {number} is overtaken by {before:?}");
        }
    }

    /// What is sent from now on arrives in order.
    pub(super) fn expect_order(&mut self) {
        self.ordered_from = Some(self.packets.len());
    }

    /// Packets of `from` to `to` sent since `since`: whether each was delivered.
    pub(super) fn fates(&self, from: usize, to: usize, since: Duration) -> impl Iterator<Item = bool> {
        let recent = self.packets.iter().rev().take_while(move |packet| packet.at >= since);
        recent.filter(move |packet| packet.from == from && packet.to == Some(to)).map(|p| p.is_delivered)
    }
}

fn hash_into(hasher: &mut DefaultHasher, what: impl Hash) {
    what.hash(hasher);
}

/// Datagrams.
impl Ledger {
    /// The keys that initiations may be for.
    pub(super) fn know_key(&mut self, key: PublicKey) {
        self.mac1_keys.push((key, Mac1Key::new(key.as_bytes())));
    }

    /// An index was put into somebody else's message.
    pub(super) fn confuses(&mut self, index: u32) {
        self.ambiguous.insert(index);
    }

    /// Whoever has the private key of `node` has made a message.
    pub(super) fn made(&mut self, node: usize, datagram: &[u8]) {
        self.makers.insert(name(datagram), node);
        if matches!(datagram[0], 1 | 2) && has_mac2(datagram) {
            self.with_mac2.insert(hash(datagram));
        }
    }

    /// An engine has sent a datagram, because of `cause` if that has just arrived.
    pub(super) fn sent(
        &mut self,
        now: Duration,
        (from, to): (usize, SocketAddr),
        datagram: &[u8],
        cause: &[Arrival<'_>],
    ) {
        self.counts.datagrams += 1;
        hash_into(&mut self.digest, (now, from, datagram));
        self.made(from, datagram);
        match Message::parse(datagram).expect("an engine sends messages") {
            Message::Data(header) if self.ambiguous.contains(&header.receiver) => {}
            Message::Data(header) => {
                let (receiver, counter) = (header.receiver, header.counter);
                let is_new = self.nonces.insert((from, receiver, counter));
                assert!(is_new, "node {from} used counter {counter} twice with the key of {receiver:08x}");
                self.may_be_sent_with(now, from, receiver);
                let is_confirmed = !self.unconfirmed.contains_key(&(from, receiver));
                assert!(is_confirmed, "node {from} sends with a key that nobody has confirmed");
            }
            Message::Handshake(HandshakeMessage::Initiation(initiation)) => {
                self.counts.initiations += 1;
                let to = self.mac1_keys.iter().find(|(_, key)| key.verifies(&initiation));
                let to = to.expect("initiations are for somebody").0;
                if let Some(last) = self.initiations.insert((from, to), now) {
                    let pause = now - last;
                    assert!(pause >= REKEY_TIMEOUT, "node {from} initiated again after {pause:?}");
                }
            }
            Message::Handshake(HandshakeMessage::Response(_)) => {
                self.counts.responses += 1;
                self.unconfirmed.insert((from, word(datagram, 8)), word(datagram, 4));
                self.answered_under_load(now, from, cause);
                self.answered_in_time(now, from, cause);
            }
            Message::Handshake(HandshakeMessage::CookieReply(_)) => {
                self.counts.cookies += 1;
                self.cookies.insert((from, to));
            }
        }
    }

    /// Nothing is sent with a key that is too old, or void.
    fn may_be_sent_with(&mut self, now: Duration, from: usize, receiver: u32) {
        let age = now - *self.sending.entry((from, receiver)).or_insert(now);
        assert!(age < REJECT_AFTER_TIME, "node {from} sends with a key that is {age:?} old at least");
        assert!(!self.void.contains(&(from, receiver)), "node {from} sends with a key that is void");
    }

    /// Another private key, another engine, or the interface was down: the keys that `node` has are void, and the clock for
    /// initiations starts anew.
    pub(super) fn starts_anew(&mut self, node: usize) {
        self.void.extend(self.sending.keys().filter(|(of, _)| *of == node));
        self.forget_initiations(node);
    }

    /// Under load only who has shown a cookie is answered.
    fn answered_under_load(&mut self, now: Duration, from: usize, cause: &[Arrival<'_>]) {
        if self.loaded_until.get(&from).is_none_or(|until| now >= *until) {
            return;
        }
        // A cookie is for one address.
        let mut known = cause.iter().filter(|arrival| self.cookies.contains(&(from, arrival.from)));
        let has_shown =
            known.any(|arrival| arrival.datagrams().any(|one| self.with_mac2.contains(&hash(one))));
        assert!(has_shown, "node {from} is under load and answers who has no cookie of its own");
    }

    /// However often a peer calls, it is answered fifty times a second at most.
    fn answered_in_time(&mut self, now: Duration, from: usize, cause: &[Arrival<'_>]) {
        let mut initiations = cause.iter().flat_map(Arrival::datagrams).filter(|one| one.first() == Some(&1));
        let Some(peer) = initiations.find_map(|one| self.makers.get(&name(one)).copied()) else { return };
        if let Some(last) = self.responses.insert((from, peer), now) {
            let pause = now - last;
            let least = Duration::from_secs(1) / INITIATIONS_PER_SECOND;
            assert!(pause >= least, "node {from} answers {peer} again after {pause:?}");
        }
    }

    /// `node` is under load from now on.
    pub(super) fn flooded(&mut self, now: Duration, node: usize) {
        self.loaded_until.insert(node, now + UNDER_LOAD_STICKY);
    }

    /// The clock for initiations starts anew.
    pub(super) fn forget_initiations(&mut self, node: usize) {
        self.initiations.retain(|(of, _), _| *of != node);
        self.responses.retain(|(of, _), _| *of != node);
        self.loaded_until.remove(&node);
    }

    /// Before anything is done with them: who proves now that it has a session's keys?
    pub(super) fn arrives(&mut self, at: usize, arrival: Arrival<'_>) {
        for datagram in arrival.datagrams() {
            if datagram.first() == Some(&4) && self.makers.contains_key(&name(datagram)) {
                let index = word(datagram, 4);
                self.unconfirmed.retain(|(of, _), own| *of != at || *own != index);
            }
        }
    }

    /// Datagrams have arrived at `node`, which showed one thing of its peers before and shows another after that.
    pub(super) fn arrived(
        &mut self,
        (at, node): (usize, &Node),
        arrivals: &[Arrival<'_>],
        before: &BTreeMap<usize, Shown>,
    ) {
        for (peer, after) in node.shown() {
            let Some(before) = before.get(&peer).filter(|before| **before != after) else { continue };
            // Who had an effect: a message of the peer's, and not one that had it before.
            let datagrams = arrivals.iter().flat_map(|arrival| {
                arrival.datagrams().map(|datagram| (arrival.from, name(datagram), datagram[0]))
            });
            let effective = datagrams.filter(|(_, name, kind)| {
                *kind != 3
                    && self.makers.get(name) == Some(&peer)
                    && !self.accepted.contains(&(at, node.life, *name))
            });
            let effective: Vec<_> = effective.collect();
            assert!(
                !effective.is_empty(),
                "node {at} takes for {peer}'s what it did not send, or sent once: {after:?}"
            );
            if after.endpoint != before.endpoint {
                self.counts.roamed += 1;
                let is_there = effective.iter().any(|(from, ..)| Some(*from) == after.endpoint);
                assert!(is_there, "node {at} takes {peer} to be at {:?}, where it is not", after.endpoint);
            }
            // Of several it is not known which; that none is delivered twice is seen anyway.
            if let [(_, name, _)] = effective[..] {
                self.accepted.insert((at, node.life, name));
            }
        }
    }
}

/// Bounds.
impl Ledger {
    /// What a node keeps is bounded by how many peers it has.
    pub(super) fn check_memory(&self, number: usize, node: &Node) {
        let device = &node.device;
        let peers = device.peers.shared().len();
        let indices = device.indices.shared().len();
        assert!(indices <= MAX_INDICES * peers, "node {number} has {indices} indices for {peers} peers");
        let (_, deadlines) = device.deadlines.pending();
        // Those of peers that were removed stay until their time comes, too.
        let ever = peers + self.mac1_keys.len();
        assert!(
            deadlines <= MAX_DEADLINES * ever,
            "node {number} has {deadlines} deadlines for {peers} peers"
        );
        for peer in device.peers.shared().values() {
            let staged = peer.session.locked().staged();
            assert!(staged <= MAX_STAGED_PACKETS, "node {number} has {staged} packets for one peer");
        }
        assert!(device.staged.taken() <= MAX_STAGED_IN_ALL, "node {number} has staged too much");
    }

    /// A number that two runs share if the same happened in both.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }
}
