//! Two peers on a virtual network: a seeded generator, a virtual clock, and no I/O, so that a test that fails once fails
//! always.
//!
//! A [`Node`] drives identity, handshake, session and index table of one peer as an engine does, a [`Pair`] carries what two
//! of them send from one to the other.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use adit_crypto::{Secret, TAG_LEN};
pub use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::cookie::Mac1Key;
use crate::handshake::{Env, Handshake, Identity, Timestamps};
use crate::index::IndexTable;
use crate::keypair::{Keypair, padded_len, plaintext};
use crate::message::{
    DATA_HEADER_LEN, HandshakeMessage, Initiation, KEEPALIVE_LEN, Message, Response, WithMacs,
};
use crate::session::{Endpoint, Grant, NotReady, Session};
use crate::time::{Instant, Tai64n};

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A random identity.
pub fn identity(rng: &mut ChaCha8Rng) -> Identity {
    let mut private_key = Secret::default();
    rng.fill_bytes(private_key.expose_mut());
    Identity::new(&private_key)
}

/// When tests start: late enough that a clock can go backwards.
pub const START: Instant = Instant::from_nanos(1_000_000_000_000_000);

/// `secs` seconds after [`START`].
pub fn after(secs: u64) -> Instant {
    START + Duration::from_secs(secs)
}

/// A nanosecond before `at`.
pub fn just_before(at: Instant) -> Instant {
    Instant::from_nanos(at.as_nanos() - 1)
}

/// The wall clock that goes with `now`.
pub fn wall_clock(now: Instant) -> Tai64n {
    let since_epoch = Duration::from_secs(1_600_000_000) + Duration::from_nanos(now.as_nanos());
    Tai64n::from_unix(since_epoch.as_secs(), since_epoch.subsec_nanos())
}

/// An endpoint: the port stands for the remote address, `source` for the local one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    pub port: u16,
    pub source: Option<u8>,
}

impl Address {
    pub fn new(port: u16) -> Self {
        Address { port, source: Some(1) }
    }
}

impl Endpoint for Address {
    fn clear_source(&mut self) {
        self.source = None;
    }
}

/// A 16-byte packet that says `number`, so that padding does not change it.
pub fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x45; 16];
    packet[12..].copy_from_slice(&number.to_be_bytes());
    packet
}

/// Seals `packet` with the next nonce of `grant`.
pub fn seal(grant: &mut Grant<Address>, packet: &[u8]) -> Vec<u8> {
    let mut message = vec![0; DATA_HEADER_LEN + padded_len(packet.len(), 0) + TAG_LEN];
    message[DATA_HEADER_LEN..][..packet.len()].copy_from_slice(packet);
    let stride = message.len();
    grant.keypair.seal_train(grant.nonces.take(1), &mut message, stride);
    message
}

/// `datagram`, if it is an initiation.
pub fn as_initiation(datagram: &[u8]) -> Option<Initiation> {
    match Message::parse(datagram)? {
        Message::Handshake(HandshakeMessage::Initiation(initiation)) => Some(initiation),
        _ => None,
    }
}

/// One peer.
pub struct Node {
    pub identity: Identity,
    pub handshake: Handshake,
    pub session: Session<Address>,
    /// `None` stands for the pending initiation.
    pub indices: IndexTable<Option<Arc<Keypair>>>,
    pub rng: ChaCha8Rng,
    /// The packets that came out of the tunnel, in order.
    pub received: Vec<Vec<u8>>,
    pub gave_up: usize,
    pub outbox: Vec<Vec<u8>>,
    deadlines: BinaryHeap<Reverse<Instant>>,
}

impl Node {
    fn new(identity: Identity, peer: [u8; 32], peer_at: Address, rng: ChaCha8Rng) -> Self {
        let mut session = Session::default();
        session.set_endpoint(peer_at);
        session.start();
        Node {
            handshake: Handshake::new(peer, Timestamps::default()),
            identity,
            session,
            indices: IndexTable::default(),
            rng,
            received: Vec::new(),
            gave_up: 0,
            outbox: Vec::new(),
            deadlines: BinaryHeap::new(),
        }
    }

    pub fn send(&mut self, packet: &[u8], now: Instant) {
        match self.session.begin_send(1, !packet.is_empty(), now, &mut self.rng) {
            Ok(mut grant) => {
                self.outbox.push(seal(&mut grant, packet));
                self.initiate_if(grant.initiate, now);
            }
            Err(not_ready) => {
                self.session.stage(packet);
                match not_ready {
                    NotReady::Behind => self.flush(now),
                    NotReady::NoKeypair { initiate } => self.initiate_if(initiate, now),
                }
            }
        }
        self.wake();
    }

    pub fn flush(&mut self, now: Instant) {
        let Some(mut flush) = self.session.begin_flush() else { return };
        loop {
            match self.session.next_batch(flush, now, &mut self.rng) {
                Ok((token, mut batch)) => {
                    flush = token;
                    for packet in &batch.packets {
                        self.outbox.push(seal(&mut batch.grant, packet));
                    }
                    self.initiate_if(batch.grant.initiate, now);
                }
                Err(NotReady::NoKeypair { initiate }) => return self.initiate_if(initiate, now),
                Err(NotReady::Behind) => return,
            }
        }
    }

    fn initiate_if(&mut self, requested: bool, now: Instant) {
        if requested && self.session.begin_initiation(now) {
            self.initiate(now);
        }
    }

    /// Sends an initiation, whatever the session thinks of it.
    pub fn initiate(&mut self, now: Instant) {
        let index = self.indices.insert(None, &mut self.rng);
        let mut env = Env { now, timestamp: wall_clock(now), rng: &mut self.rng, key_log: None };
        let Ok((initiation, replaced)) = self.handshake.create_initiation(&self.identity, index, &mut env)
        else {
            self.indices.remove(index);
            return;
        };
        self.retire(replaced);
        self.outbox.push(initiation.as_bytes().to_vec());
        self.session.initiation_sent(now, &mut self.rng);
        self.wake();
    }

    pub fn receive(&mut self, datagram: &[u8], from: Address, now: Instant) {
        match Message::parse(datagram) {
            Some(Message::Data(header)) => {
                if let Some(Some(keypair)) = self.indices.get(header.receiver) {
                    self.receive_data(&keypair.clone(), datagram, from, now);
                }
            }
            Some(Message::Handshake(HandshakeMessage::Initiation(initiation))) => {
                self.receive_initiation(&initiation, from, now);
            }
            Some(Message::Handshake(HandshakeMessage::Response(response))) => {
                self.receive_response(&response, from, now);
            }
            Some(Message::Handshake(HandshakeMessage::CookieReply(reply))) => {
                self.handshake.consume_cookie_reply(&reply, now);
            }
            None => {}
        }
        self.wake();
    }

    fn receive_data(&mut self, keypair: &Arc<Keypair>, datagram: &[u8], from: Address, now: Instant) {
        let mut train = datagram.to_vec();
        let stride = train.len();
        let Some(opened) = keypair.open_train(&mut train, stride, now) else { return };
        let received = self.session.finish_recv(&opened, &from, now);
        if received.accepted == 1 && train.len() > KEEPALIVE_LEN {
            self.received.push(plaintext(&train).to_vec());
        }
        self.retire(received.retired);
        if received.confirmed {
            self.flush(now);
        }
        self.initiate_if(received.initiate, now);
    }

    fn receive_initiation(&mut self, initiation: &Initiation, from: Address, now: Instant) {
        if !Mac1Key::new(self.identity.public_key()).verifies(initiation) {
            return;
        }
        let Ok(opened) = self.identity.open_initiation(initiation) else { return };
        if opened.remote_static() != self.handshake.remote_static() {
            return;
        }
        let Ok(consumed) = self.handshake.consume_initiation(&self.identity, opened, now) else { return };
        self.session.handshake_received(from, now);
        let index = self.indices.insert(None, &mut self.rng);
        let mut env = Env { now, timestamp: wall_clock(now), rng: &mut self.rng, key_log: None };
        let Ok((response, keypair)) =
            self.handshake.create_response(&self.identity, consumed, index, &mut env)
        else {
            self.indices.remove(index);
            return;
        };
        let keypair = Arc::new(keypair);
        assert!(self.indices.replace(index, Some(keypair.clone())));
        let retired = self.session.response_sent(keypair, now);
        self.retire(retired);
        self.outbox.push(response.as_bytes().to_vec());
    }

    fn receive_response(&mut self, response: &Response, from: Address, now: Instant) {
        if !Mac1Key::new(self.identity.public_key()).verifies(response) {
            return;
        }
        let Ok(keypair) = self.handshake.consume_response(&self.identity, response, now) else { return };
        let keypair = Arc::new(keypair);
        assert!(self.indices.replace(keypair.local_index(), Some(keypair.clone())));
        self.session.handshake_received(from, now);
        let retired = self.session.response_received(keypair, now);
        self.retire(retired);
        self.session.keepalive();
        self.flush(now);
    }

    /// Handles the deadlines that are reached.
    pub fn expire(&mut self, now: Instant) {
        let mut handled = 0;
        while self.deadlines.peek().is_some_and(|at| at.0 <= now) {
            let Some(Reverse(at)) = self.deadlines.pop() else { return };
            if let Some(due) = self.session.on_deadline(at, now) {
                handled += 1;
                assert!(handled < 100, "a deadline that is always due");
                self.gave_up += usize::from(due.gave_up);
                if due.zero_key_material {
                    let pending = self.handshake.forget_pending();
                    self.retire(pending);
                }
                self.retire(due.retired);
                self.initiate_if(due.initiate, now);
                if due.flush {
                    self.flush(now);
                }
            }
            self.wake();
        }
    }

    /// The device gets another private key.
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
        let pending = self.handshake.forget_identity();
        self.retire(pending);
        self.session.expire_keypairs();
    }

    /// Takes the interface down.
    pub fn stop(&mut self) {
        let retired = self.session.stop();
        self.retire(retired);
        let pending = self.handshake.forget_pending();
        self.retire(pending);
    }

    fn retire(&mut self, indices: impl IntoIterator<Item = u32>) {
        for index in indices {
            assert!(self.indices.remove(index).is_some(), "an index is retired once");
        }
    }

    pub fn wake(&mut self) {
        self.deadlines.extend(self.session.wake().map(Reverse));
    }

    /// When [`Node::expire`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|at| at.0)
    }

    /// How many deadlines are kept, also such as were superseded.
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }
}

/// A datagram that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    pub at: Instant,
    pub from: usize,
    pub bytes: Vec<u8>,
}

impl Sent {
    pub fn is_initiation(&self) -> bool {
        self.bytes[0] == 1
    }

    pub fn is_response(&self) -> bool {
        self.bytes[0] == 2
    }

    pub fn is_keepalive(&self) -> bool {
        self.bytes[0] == 4 && self.bytes.len() == KEEPALIVE_LEN
    }

    /// Receiver index and counter of transport data.
    pub fn data(&self) -> Option<(u32, u64)> {
        match Message::parse(&self.bytes) {
            Some(Message::Data(header)) => Some((header.receiver, header.counter)),
            _ => None,
        }
    }
}

/// Two nodes and the network between them.
pub struct Pair {
    pub now: Instant,
    pub nodes: [Node; 2],
    /// Where each node sends from.
    pub addresses: [Address; 2],
    /// One way.
    pub latency: Duration,
    /// Whether what this node sends is lost.
    pub lost: [bool; 2],
    /// Everything sent, also what was lost.
    pub log: Vec<Sent>,
    wire: VecDeque<(Instant, usize, Vec<u8>)>,
}

impl Pair {
    /// Two nodes that know each other's key and endpoint, without a session.
    pub fn new(seed: u64) -> Self {
        let mut seeds = rng(seed);
        let identities = [identity(&mut seeds), identity(&mut seeds)];
        let public = identities.each_ref().map(|identity| *identity.public_key());
        let addresses = [Address::new(1000), Address::new(2000)];
        let [a, b] = identities;
        let nodes = [
            Node::new(a, public[1], addresses[1], rng(seeds.next_u64())),
            Node::new(b, public[0], addresses[0], rng(seeds.next_u64())),
        ];
        Pair {
            now: START,
            nodes,
            addresses,
            latency: Duration::from_millis(10),
            lost: [false; 2],
            log: Vec::new(),
            wire: VecDeque::new(),
        }
    }

    /// Two nodes with a session that node 0 initiated a second ago; the log is empty.
    pub fn connected(seed: u64) -> Self {
        let mut pair = Pair::new(seed);
        pair.send(0, &packet(0));
        pair.run_for(Duration::from_secs(1));
        assert_eq!(pair.nodes[1].received, [packet(0)]);
        pair.nodes[1].received.clear();
        pair.log.clear();
        pair
    }

    /// Node `from` sends a packet through the tunnel.
    pub fn send(&mut self, from: usize, packet: &[u8]) {
        self.nodes[from].send(packet, self.now);
        self.collect();
    }

    /// Node `from` handshakes, due or not.
    pub fn initiate(&mut self, from: usize) {
        self.nodes[from].initiate(self.now);
        self.collect();
    }

    /// Lets time pass: datagrams arrive, timers fire.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.collect();
            let arrival = self.wire.front().map(|(at, ..)| *at);
            let deadlines = self.nodes.iter().filter_map(Node::next_deadline);
            let Some(next) = deadlines.chain(arrival).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now) {
                let Some((_, from, bytes)) = self.wire.pop_front() else { break };
                self.nodes[1 - from].receive(&bytes, self.addresses[from], self.now);
            } else {
                self.nodes.iter_mut().for_each(|node| node.expire(self.now));
            }
        }
        self.now = self.now.max(end);
    }

    /// [`Pair::run_for`] whole seconds.
    pub fn run_secs(&mut self, secs: u64) {
        self.run_for(Duration::from_secs(secs));
    }

    /// Puts on the wire what the nodes have sent.
    pub fn collect(&mut self) {
        for from in 0..2 {
            for bytes in core::mem::take(&mut self.nodes[from].outbox) {
                if !self.lost[from] {
                    self.wire.push_back((self.now + self.latency, from, bytes.clone()));
                }
                self.log.push(Sent { at: self.now, from, bytes });
            }
        }
    }

    /// When node `from` sent what `which` picks out of the log.
    pub fn times(&self, from: usize, which: impl Fn(&Sent) -> bool) -> Vec<Instant> {
        self.log.iter().filter(|sent| sent.from == from && which(sent)).map(|sent| sent.at).collect()
    }
}
