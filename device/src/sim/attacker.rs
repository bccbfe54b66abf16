//! Somebody who sees every datagram, keeps some, and sends what he likes from wherever he likes. He knows all public keys,
//! no preshared key, and now and then a private key.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use adit_control::PublicKey;
use adit_crypto::{Secret, blake2s};
use adit_proto::cookie::Checker;
use adit_proto::handshake::{Env, Handshake, Identity, Timestamps};
use adit_proto::keypair::MAX_TRAIN;
use adit_proto::limits::UNDER_LOAD_HANDSHAKES;
use adit_proto::message::{HandshakeMessage, INITIATION_LEN, Message, RESPONSE_LEN, WithMacs};

use super::dice::Dice;
use super::ledger::{Arrival, word};
use super::outside;
use super::world::World;
use crate::state::Device;

/// What he remembers at most, of old datagrams and of recent ones.
const MEMORY: usize = 128;
/// For how long he keeps an injected datagram back at most.
const DELAY: Duration = Duration::from_millis(300);

/// A datagram that he saw.
#[derive(Clone)]
pub(super) struct Seen {
    node: usize,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Attacker {
    old: Vec<Seen>,
    recent: VecDeque<Seen>,
    /// In how many of a thousand he keeps a datagram back and sends it on from an address of his own.
    pub(super) relays: usize,
    /// In how many of a thousand a handshake message arrives in the middle of a flood of his.
    pub(super) ambushes: usize,
    waylaid: Vec<Seen>,
}

/// What he can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attack {
    Replay,
    CrossWire,
    Forge,
    Garbage,
    Stranger,
    StolenKey,
    CookieReply,
    Flood,
}

impl Attack {
    pub(super) const ALL: [Attack; 8] = [
        Attack::Replay,
        Attack::CrossWire,
        Attack::Forge,
        Attack::Garbage,
        Attack::Stranger,
        Attack::StolenKey,
        Attack::CookieReply,
        Attack::Flood,
    ];

    /// Whether it may have a peer looked for where it is not: what is authentic and new speaks for where it comes from,
    /// also when the attacker was the first to deliver it.
    pub(super) fn may_mislead(self) -> bool {
        matches!(self, Attack::Replay | Attack::CrossWire | Attack::Forge | Attack::StolenKey)
    }
}

fn own_address(dice: &mut Dice) -> SocketAddr {
    (Ipv4Addr::new(203, 0, 113, dice.below(4) as u8), 4242).into()
}

/// Anybody who knows a public key can make mac1.
fn set_mac1(message: &mut [u8], to: &PublicKey) {
    let len = message.len();
    if (message[0], len) == (1, INITIATION_LEN) || (message[0], len) == (2, RESPONSE_LEN) {
        let key = blake2s::hash(&[b"mac1----", to.as_bytes()]);
        let mac1 = blake2s::mac(&key, &[&message[..len - 32]]);
        message[len - 32..len - 16].copy_from_slice(&mac1);
    }
}

impl Attacker {
    /// A datagram passes by. Returns where it seems to come from, if he lets it pass.
    pub(super) fn sees(
        &mut self,
        node: usize,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        dice: &mut Dice,
    ) -> Option<SocketAddr> {
        let seen = Seen { node, from, to, bytes: bytes.to_vec() };
        if self.old.len() < MEMORY && dice.one_in(4) {
            self.old.push(seen.clone());
        }
        self.recent.push_back(seen);
        if self.recent.len() > MEMORY {
            self.recent.pop_front();
        }
        if bytes[0] < 3 && dice.per_mille(self.ambushes) {
            self.waylaid.extend(self.recent.back().cloned());
            return None;
        }
        Some(if dice.per_mille(self.relays) { own_address(dice) } else { from })
    }

    /// What he has seen last.
    pub(super) fn copies(&self) -> Vec<Seen> {
        self.recent.iter().cloned().collect()
    }

    fn remembers(&self, dice: &mut Dice) -> Option<Seen> {
        let count = self.old.len() + self.recent.len();
        let handshakes: Vec<&Seen> = self.old.iter().chain(&self.recent).filter(|s| s.bytes[0] < 4).collect();
        if !handshakes.is_empty() && dice.one_in(3) {
            return Some((*dice.pick(&handshakes)).clone());
        }
        match dice.below(count) {
            _ if count == 0 => None,
            at if at < self.old.len() => self.old.get(at).cloned(),
            at => self.recent.get(at - self.old.len()).cloned(),
        }
    }
}

impl World {
    /// The attacker does something.
    pub(super) fn attack(&mut self, attack: Attack) {
        self.tell(|_| format!("the attacker: {attack:?}"));
        match attack {
            Attack::Replay => self.replay(|_, _, _| ()),
            Attack::CrossWire => self.cross_wire(),
            Attack::Forge => self.replay(forge),
            Attack::Garbage => self.send_garbage(),
            Attack::Stranger => self.introduce_stranger(),
            Attack::StolenKey => self.use_stolen_key(),
            Attack::CookieReply => self.forge_cookie_reply(),
            Attack::Flood => self.flood(),
        }
    }

    /// Where the attacker's datagrams seem to come from.
    fn attackers_source(&mut self, honest: SocketAddr) -> SocketAddr {
        let others: Vec<_> = self.nodes.iter().map(|node| node.address).collect();
        match self.dice.below(3) {
            0 => honest,
            1 => own_address(&mut self.dice),
            _ => *self.dice.pick(&others),
        }
    }

    fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let at = self.now + self.dice.duration(Duration::ZERO, DELAY);
        self.network.put(at, from, to, bytes);
    }

    /// Sends again what was sent, perhaps changed, perhaps to somebody else.
    fn replay(&mut self, change: impl Fn(&mut [u8], &PublicKey, &mut Dice)) {
        for _ in 0..self.dice.between(1, 4) {
            let Some(mut seen) = self.attacker.remembers(&mut self.dice) else { return };
            let at = match self.nodes.iter().position(|node| node.address == seen.to) {
                Some(to) if !self.dice.one_in(4) => to,
                _ => self.dice.below(self.nodes.len()),
            };
            let key = self.nodes[at].public_key;
            change(&mut seen.bytes, &key, &mut self.dice);
            let from = self.attackers_source(seen.from);
            self.inject(from, self.nodes[at].address, seen.bytes);
        }
    }

    /// Sends again what was sent, from where it came.
    pub(super) fn replay_once(&mut self, seen: Seen) {
        self.inject(seen.from, seen.to, seen.bytes);
    }

    /// Gives a message another's indices.
    fn cross_wire(&mut self) {
        let seen = self.attacker.remembers(&mut self.dice);
        let (Some(mut seen), Some(other)) = (seen, self.attacker.remembers(&mut self.dice)) else { return };
        let at = if seen.bytes[0] == 2 && self.dice.one_in(2) { 8 } else { 4 };
        let other_at = if other.bytes[0] == 2 && self.dice.one_in(2) { 8 } else { 4 };
        self.ledger.confuses(word(&other.bytes, other_at));
        seen.bytes[at..at + 4].copy_from_slice(&other.bytes[other_at..other_at + 4]);
        let to = self.dice.below(self.nodes.len());
        set_mac1(&mut seen.bytes, &self.nodes[to].public_key);
        let from = self.attackers_source(seen.from);
        self.inject(from, self.nodes[to].address, seen.bytes);
    }

    /// Right in form, and nothing else.
    fn send_garbage(&mut self) {
        let to = self.dice.below(self.nodes.len());
        let (kind, len) =
            *self.dice.pick(&[(1, 148), (2, 92), (3, 64), (4, 32), (4, 96), (4, 31), (5, 148), (0, 0)]);
        let random: [u8; 148] = self.dice.bytes();
        let mut bytes = random[..len].to_vec();
        if len > 0 {
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            if kind == 1 && self.dice.one_in(2) {
                // A point of low order.
                bytes[8..40].fill(0);
            }
            set_mac1(&mut bytes, &self.nodes[to].public_key);
        }
        let from = self.attackers_source(self.nodes[to].address);
        self.inject(from, self.nodes[to].address, bytes);
    }

    fn initiation(&mut self, private_key: [u8; 32], to: usize) -> Vec<u8> {
        let [initiation] = self.initiations(private_key, to);
        initiation
    }

    /// Each with a later timestamp.
    fn initiations<const N: usize>(&mut self, private_key: [u8; 32], to: usize) -> [Vec<u8>; N] {
        let identity = Identity::new(&Secret::new(private_key));
        let key = *self.nodes[to].public_key.as_bytes();
        let mut rng = outside::rng();
        let mut env =
            Env { now: Device::now(), timestamp: Device::timestamp(), rng: &mut rng, key_log: None };
        let index = u32::from_le_bytes(self.dice.bytes());
        let mut handshake = Handshake::new(key, Timestamps::default());
        [(); N].map(|()| {
            let made = handshake.create_initiation(&identity, index, &mut env);
            made.expect("nodes have good keys").0.as_bytes().to_vec()
        })
    }

    fn introduce_stranger(&mut self) {
        let (to, private_key) = (self.dice.below(self.nodes.len()), self.dice.bytes());
        let initiation = self.initiation(private_key, to);
        let from = self.attackers_source(self.nodes[to].address);
        self.inject(from, self.nodes[to].address, initiation);
    }

    /// He has a peer's private key, and calls in its name.
    fn use_stolen_key(&mut self) {
        let from = self.dice.below(self.nodes.len());
        let to = *self.dice.pick(&self.peers_of(from));
        let private_key = self.nodes[from].private_key();
        // By the robbed one's clock: a later timestamp would lock it out.
        self.on(from, |_| ());
        let source = self.attackers_source(self.nodes[from].address);
        let (at, address) = (self.now + self.dice.duration(Duration::ZERO, DELAY), self.nodes[to].address);
        for initiation in self.initiations::<3>(private_key, to) {
            self.ledger.made(from, &initiation);
            self.network.put(at, source, address, initiation);
        }
    }

    /// He has seen mac1 and knows the public key: that is all a cookie reply takes.
    fn forge_cookie_reply(&mut self) {
        let Some(seen) = self.attacker.remembers(&mut self.dice) else { return };
        let Some(Message::Handshake(message)) = Message::parse(&seen.bytes) else { return };
        let (Some(with_macs), false) =
            (message.with_macs(), matches!(message, HandshakeMessage::CookieReply(_)))
        else {
            return;
        };
        let Some(victim) = self.nodes.iter().position(|node| node.address == seen.to) else { return };
        let mut checker = Checker::new(self.nodes[victim].public_key.as_bytes());
        let reply = checker.reply(with_macs, seen.from, Device::now(), &mut outside::rng());
        let from = self.attackers_source(seen.to);
        self.inject(from, self.nodes[seen.node].address, reply.as_bytes().to_vec());
    }

    /// Brings a node under load, while nobody calls whom he knows of.
    fn flood(&mut self) {
        let to = self.dice.below(self.nodes.len());
        self.flood_around(to, None);
    }

    /// Those whose handshake messages were kept back for it call in the middle of floods.
    pub(super) fn ambush(&mut self) {
        while let Some(seen) = self.attacker.waylaid.pop() {
            if let Some(to) = self.nodes.iter().position(|node| node.address == seen.to) {
                self.flood_around(to, Some(&seen));
            }
        }
    }

    fn flood_around(&mut self, to: usize, call: Option<&Seen>) {
        if !self.nodes[to].is_there() || self.network.is_cut_off(to, self.now) {
            return;
        }
        let private_key = self.dice.bytes();
        let train = self.initiation(private_key, to).repeat(MAX_TRAIN);
        let sources = [(); UNDER_LOAD_HANDSHAKES / MAX_TRAIN + 1].map(|()| own_address(&mut self.dice));
        let flood = sources.map(|from| Arrival { from, train: &train, stride: INITIATION_LEN });
        let mut arrivals = flood.to_vec();
        if let Some(Seen { from, bytes, .. }) = call {
            // Behind it comes enough for the load to be seen.
            let call = Arrival { from: *from, train: bytes, stride: bytes.len() };
            // What the caller shows is of no use to anybody else.
            let copy = Arrival { from: (Ipv4Addr::new(203, 0, 113, 99), 4242).into(), ..call };
            arrivals.insert(0, call);
            arrivals.insert(0, copy);
        }
        self.ledger.flooded(self.now, to);
        self.receive(to, &arrivals);
    }
}

/// Damages a message, and makes its mac1 right again.
fn forge(bytes: &mut [u8], to: &PublicKey, dice: &mut Dice) {
    if bytes[0] == 4 && dice.one_in(3) {
        // Another counter, perhaps one at the limit.
        let counter: [u8; 8] = if dice.one_in(2) { [0xff; 8] } else { dice.bytes() };
        bytes[8..16].copy_from_slice(&counter);
        return;
    }
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    set_mac1(bytes, to);
}
