//! The state machine: two peers on a virtual clock, and a network that does what the input says.
//!
//! The input is a script: packets sent, datagrams delivered, kept, repeated, damaged or dropped, time that passes, keys and
//! addresses that change, cookies asked for. After each step hold:
//!
//! - no counter is used twice with a key, no key is used at 180 s or before there is one;
//! - what is delivered was sent by the other, unchanged, and is delivered once;
//! - a peer makes one initiation in five seconds;
//! - indices, staged packets and deadlines are bounded; no deadline is always due, and no two peers talk without end.
//!
//! When the script is over and nothing is lost any more, both directions work again.

#![no_main]

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use adit_crypto::Secret;
use adit_proto::cookie::Checker;
use adit_proto::handshake::Identity;
use adit_proto::limits::{MAX_STAGED_PACKETS, REJECT_AFTER_TIME, REKEY_TIMEOUT};
use adit_proto::message::{HandshakeMessage, Message};
use adit_proto::testing::{Address, ChaCha8Rng, Node, Pair, START, identity, packet, rng};
use adit_proto::time::Instant;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Of a script: what comes after costs time and shows little.
const MAX_STEPS: usize = 120;
/// Datagrams under way; the oldest are lost.
const MAX_WIRE: usize = 200;
/// Three sessions and a pending initiation.
const MAX_INDICES: usize = 4;
/// One a second for nine minutes, as long as keys live, and some.
const MAX_DEADLINES: usize = 600;

fuzz_target!(|input: &[u8]| {
    let mut script = Unstructured::new(input);
    let mut world = World::new();
    for _ in 0..MAX_STEPS {
        // A script that ends in the middle of a step is over there.
        if script.is_empty() || world.step(&mut script).is_err() {
            break;
        }
        world.check();
    }
    // That takes as long as many steps.
    if input.len().is_multiple_of(2) {
        world.heal();
    }
});

struct World {
    now: Instant,
    nodes: [Node; 2],
    addresses: [Address; 2],
    /// What is under way, and who sent it.
    wire: Vec<(usize, Vec<u8>)>,
    rng: ChaCha8Rng,
    checkers: [Checker; 2],
    /// The private key that a node had first, if it has another now.
    own_keys: [Option<Secret<32>>; 2],
    ledger: Ledger,
}

impl World {
    fn new() -> Self {
        let Pair { nodes, addresses, .. } = Pair::new(1);
        let checkers = nodes.each_ref().map(|node| Checker::new(node.identity.public_key()));
        World {
            now: START,
            nodes,
            addresses,
            wire: Vec::new(),
            rng: rng(2),
            checkers,
            own_keys: [None, None],
            ledger: Ledger::default(),
        }
    }

    fn step(&mut self, script: &mut Unstructured<'_>) -> Result<()> {
        let what = script.arbitrary::<u8>()?;
        let (what, node) = (what >> 1, usize::from(what & 1));
        match what % 20 {
            0..=2 => (0..script.int_in_range(1..=4)?).for_each(|_| self.send(node)),
            3..=4 => self.deliver_all(),
            5 | 6 => {
                if let Some((from, bytes)) = self.pick(script, true)? {
                    self.deliver(1 - from, &bytes);
                }
            }
            7 => {
                if let Some((from, bytes)) = self.pick(script, false)? {
                    self.deliver(1 - from, &bytes);
                }
            }
            8 => drop(self.pick(script, true)?),
            9 => {
                // Back to who sent it.
                if let Some((from, bytes)) = self.pick(script, false)? {
                    self.deliver(from, &bytes);
                }
            }
            10 => {
                if let Some((from, mut bytes)) = self.pick(script, script.len().is_multiple_of(2))? {
                    let at = script.choose_index(bytes.len())?;
                    bytes[at] ^= script.arbitrary::<u8>()?;
                    self.deliver(1 - from, &bytes);
                }
            }
            11..=13 => {
                let unit = [1, 100, 1_000, 10_000][usize::from(script.int_in_range(0..=3u8)?)];
                let millis = unit * u64::from(script.int_in_range(0..=60u8)?);
                self.pass(Duration::from_millis(millis), false);
            }
            14 => {
                let key = script.int_in_range(0..=2u8)?;
                self.nodes[node].handshake.set_preshared_key(Secret::new([key; 32]));
            }
            15 => match script.int_in_range(0..=3u8)? {
                0 => self.restart(node),
                1 => {
                    let first = *self.nodes[node].identity.private_key().expose();
                    self.own_keys[node].get_or_insert(Secret::new(first));
                    let other = identity(&mut self.rng);
                    self.become_another(node, other);
                }
                2 => {
                    self.nodes[node].session.expire_keypairs();
                    self.ledger.may_initiate(node);
                }
                _ => {
                    self.nodes[node].session.refresh(self.now);
                    self.nodes[node].wake();
                }
            },
            16 => self.addresses[node] = Address::new(script.int_in_range(1..=9)?),
            17 => {
                let seconds = script.int_in_range(0..=30u8)?;
                let interval = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                if self.nodes[node].session.set_keepalive_interval(interval) {
                    self.keepalive(node);
                }
                self.nodes[node].wake();
            }
            18 => self.ask_for_a_cookie(script)?,
            _ => self.keepalive(node),
        }
        self.collect();
        Ok(())
    }

    /// A datagram under way, which goes on there unless it is taken.
    fn pick(&mut self, script: &mut Unstructured<'_>, take: bool) -> Result<Option<(usize, Vec<u8>)>> {
        if self.wire.is_empty() {
            return Ok(None);
        }
        let at = script.choose_index(self.wire.len())?;
        Ok(Some(if take { self.wire.remove(at) } else { self.wire[at].clone() }))
    }

    fn send(&mut self, from: usize) {
        let number = self.ledger.packets.len() as u32;
        self.ledger.packets.push((from, false));
        self.nodes[from].send(&packet(number), self.now);
        self.collect();
    }

    fn keepalive(&mut self, node: usize) {
        self.nodes[node].session.keepalive();
        self.nodes[node].flush(self.now);
        self.nodes[node].wake();
    }

    fn restart(&mut self, node: usize) {
        self.nodes[node].stop();
        assert_eq!(self.nodes[node].indices.len(), 0, "a stopped peer holds nothing");
        assert_eq!(self.nodes[node].session.staged(), 0);
        self.nodes[node].session.start();
        self.ledger.may_initiate(node);
    }

    fn become_another(&mut self, node: usize, identity: Identity) {
        self.checkers[node] = Checker::new(identity.public_key());
        self.nodes[node].set_identity(identity);
        self.ledger.may_initiate(node);
    }

    fn deliver(&mut self, to: usize, bytes: &[u8]) {
        if let Some(Message::Handshake(HandshakeMessage::Response(response))) = Message::parse(bytes) {
            // If it is taken, that is when the key is made.
            self.ledger.births.insert((to, response.sender()), self.now);
        }
        let from = self.addresses[1 - to];
        self.nodes[to].receive(bytes, from, self.now);
        self.collect();
    }

    /// All that is under way arrives in order, and what is sent for that.
    fn deliver_all(&mut self) {
        for _ in 0..2 * MAX_WIRE {
            if self.wire.is_empty() {
                return;
            }
            let (from, bytes) = self.wire.remove(0);
            self.deliver(1 - from, &bytes);
        }
        panic!("they talk without end");
    }

    /// Under load a handshake message is answered by a cookie.
    fn ask_for_a_cookie(&mut self, script: &mut Unstructured<'_>) -> Result<()> {
        let Some((from, bytes)) = self.pick(script, true)? else { return Ok(()) };
        let Some(Message::Handshake(message)) = Message::parse(&bytes) else { return Ok(()) };
        let Some(message) = message.with_macs() else { return Ok(()) };
        let source = SocketAddr::from(([192, 0, 2, 1], self.addresses[from].port));
        let checker = &mut self.checkers[1 - from];
        let is_valid = checker.mac2_is_valid(message, source, self.now);
        assert_eq!(checker.mac2s_are_valid(&[(message, source)], self.now), u64::from(is_valid));
        if is_valid {
            assert!(self.ledger.cookies.contains(&(from, source)), "nobody has told it this cookie");
            self.deliver(1 - from, &bytes);
        } else {
            let reply = checker.reply(message, source, self.now, &mut self.rng);
            self.ledger.cookies.insert((from, source));
            self.wire.push((1 - from, reply.as_bytes().to_vec()));
        }
        Ok(())
    }

    /// Time passes, and timers fire when they are due. What is sent then arrives at once, or is under way.
    fn pass(&mut self, duration: Duration, arrives: bool) {
        let end = self.now + duration;
        let mut woken = 0;
        while let Some(next) =
            self.nodes.iter().filter_map(Node::next_deadline).min().filter(|next| *next <= end)
        {
            self.now = self.now.max(next);
            for node in 0..2 {
                self.nodes[node].expire(self.now);
                assert!(self.nodes[node].next_deadline().is_none_or(|next| next > self.now));
                self.collect();
            }
            if arrives {
                self.deliver_all();
            }
            woken += 1;
            assert!(woken < 3_000 + 10 * duration.as_secs(), "timers fire all the time");
        }
        self.now = end;
    }

    /// Puts under way what was sent, and asks of it what must hold.
    fn collect(&mut self) {
        for from in 0..2 {
            for bytes in std::mem::take(&mut self.nodes[from].outbox) {
                self.ledger.sent(from, &bytes, self.now);
                self.wire.push((from, bytes));
            }
            for packet in std::mem::take(&mut self.nodes[from].received) {
                self.ledger.delivered(from, &packet);
            }
        }
        let excess = self.wire.len().saturating_sub(MAX_WIRE);
        self.wire.drain(..excess);
    }

    fn check(&self) {
        for node in &self.nodes {
            assert!(node.indices.len() <= MAX_INDICES, "three sessions and an initiation");
            assert!(node.session.staged() <= MAX_STAGED_PACKETS);
            assert!(node.deadlines() <= MAX_DEADLINES, "{} deadlines", node.deadlines());
        }
    }

    /// Both are configured to talk again, nothing is lost any more: then they do.
    fn heal(&mut self) {
        self.wire.clear();
        for node in 0..2 {
            self.nodes[node].handshake.set_preshared_key(Secret::default());
            if let Some(private_key) = self.own_keys[node].take() {
                self.become_another(node, Identity::new(&private_key));
            }
        }
        // What was begun before comes to an end.
        self.pass(Duration::from_secs(200), true);
        for from in 0..2 {
            let number = self.ledger.packets.len();
            self.send(from);
            self.deliver_all();
            self.pass(Duration::from_secs(10), true);
            assert!(self.ledger.packets[number].1, "packet {number} of {from} has not arrived");
        }
        self.check();
    }
}

/// What was sent, and what must hold of it.
#[derive(Default)]
struct Ledger {
    /// Who sent each packet, and whether it was delivered. Its number is its place.
    packets: Vec<(usize, bool)>,
    /// By node and the receiver's index, which names the key.
    counters: HashSet<(usize, u32, u64)>,
    /// The same: when the key was made, at the latest.
    births: HashMap<(usize, u32), Instant>,
    initiated: [Option<Instant>; 2],
    /// Who was sent a cookie, and for where.
    cookies: HashSet<(usize, SocketAddr)>,
}

impl Ledger {
    fn sent(&mut self, from: usize, bytes: &[u8], now: Instant) {
        match Message::parse(bytes).expect("what is sent has the form of a message") {
            Message::Data(header) => {
                assert!(self.counters.insert((from, header.receiver, header.counter)), "a counter twice");
                let birth = self.births.get(&(from, header.receiver)).expect("there is no such key");
                assert!(!now.has_reached(*birth, REJECT_AFTER_TIME), "the key is too old");
                assert_eq!((bytes.len() - 32) % 16, 0, "padded");
            }
            Message::Handshake(HandshakeMessage::Initiation(_)) => {
                let last = self.initiated[from].replace(now);
                assert!(
                    last.is_none_or(|last| now.has_reached(last, REKEY_TIMEOUT)),
                    "initiations too often"
                );
            }
            Message::Handshake(HandshakeMessage::Response(response)) => {
                self.births.insert((from, response.receiver()), now);
            }
            Message::Handshake(HandshakeMessage::CookieReply(_)) => panic!("nobody is under load"),
        }
    }

    /// Something happened after which a handshake may start at once.
    fn may_initiate(&mut self, node: usize) {
        self.initiated[node] = None;
    }

    fn delivered(&mut self, to: usize, bytes: &[u8]) {
        let number = bytes.last_chunk().map_or(u32::MAX, |number| u32::from_be_bytes(*number));
        let sent = self.packets.get_mut(number as usize).expect("nobody has sent this");
        assert_eq!(bytes, packet(number), "changed on the way");
        assert_eq!(sent.0, 1 - to, "it was for somebody else");
        assert!(!std::mem::replace(&mut sent.1, true), "packet {number} arrived twice");
    }
}
