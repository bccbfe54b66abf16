//! Nodes, the network between them, and time. Whatever happens goes through here, and the ledger sees it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::attacker::Attacker;
use super::dice::Dice;
use super::ledger::{Arrival, Ledger};
use super::network::{Network, Weather};
use super::node::{Known, Node, inner_address, public_key};
use super::outside::{self, Guard};

/// The wall clock when the machines boot.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);
/// Things that happen at one moment at most; more, and somebody goes round in circles.
const MAX_AT_ONCE: usize = 20_000;

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) dice: Dice,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) attacker: Attacker,
    pub(super) ledger: Ledger,
    /// Nodes whose addresses never change and that others know.
    pub(super) publics: usize,
    /// The greatest difference that a wall clock ever had, in seconds.
    pub(super) wall_ahead: i64,
    is_told: bool,
    last_address: u16,
    _guard: Guard,
}

/// Building it.
impl World {
    /// `count` nodes, of which the first `publics` are where others know them to be. `is_told` has everything printed.
    pub(super) fn new(seed: u64, count: usize, publics: usize, mut dice: Dice, is_told: bool) -> Self {
        let guard = Guard::new(seed);
        let now = Duration::from_secs(3600);
        outside::set_clocks(now, EPOCH + now);
        let latency = dice.millis(1, 200);
        let mut world = World {
            now,
            nodes: Vec::new(),
            network: Network::new(Weather::fair(latency)),
            attacker: Attacker::default(),
            ledger: Ledger::default(),
            dice,
            publics,
            wall_ahead: 0,
            is_told,
            last_address: 0,
            _guard: guard,
        };
        for _ in 0..count {
            let (private_key, address) = (world.dice.bytes(), world.new_address());
            world.ledger.know_key(public_key(private_key));
            world.nodes.push(Node::new(private_key, address));
        }
        for node in 0..count {
            for peer in world.peers_of(node) {
                let known = world.known(peer);
                world.on(node, |node| node.add_peer(peer, known));
            }
        }
        world
    }

    /// An address that nobody had before.
    pub(super) fn new_address(&mut self) -> SocketAddr {
        self.last_address += 1;
        let [high, low] = self.last_address.to_be_bytes();
        (Ipv4Addr::new(198, 18, high, low), 51820 + self.last_address % 7).into()
    }

    /// Who is meant to talk to `node`: two of which one at least can be found.
    pub(super) fn peers_of(&self, node: usize) -> Vec<usize> {
        let count = if node < self.publics { self.nodes.len() } else { self.publics };
        (0..count).filter(|peer| *peer != node).collect()
    }

    /// What `node` is to be told about `peer`.
    pub(super) fn known(&self, peer: usize) -> Known {
        let Node { public_key: key, address, .. } = self.nodes[peer];
        let endpoint = (peer < self.publics).then_some(address);
        Known { key, preshared_key: [0; 32], endpoint, keepalive: 0 }
    }
}

/// Time.
impl World {
    /// Something happens at a node: it has its clocks, and what it sends leaves.
    pub(super) fn on<R>(&mut self, number: usize, act: impl FnOnce(&mut Node) -> R) -> R {
        self.on_arrival(number, &[], act)
    }

    fn on_arrival<R>(&mut self, number: usize, cause: &[Arrival<'_>], act: impl FnOnce(&mut Node) -> R) -> R {
        let node = &mut self.nodes[number];
        let wall = (EPOCH + self.now).as_secs().saturating_add_signed(node.wall_offset);
        outside::set_clocks(self.now, Duration::new(wall, self.now.subsec_nanos()));
        let result = act(node);
        if node.is_there() {
            node.work();
        }
        self.ledger.check_memory(number, &self.nodes[number]);
        for sent in outside::take_sent() {
            self.tell(|world| world.describe(number, sent.to, &sent.bytes));
            self.ledger.sent(self.now, (number, sent.to), &sent.bytes, cause);
            self.leave(number, sent.to, &sent.bytes);
        }
        result
    }

    /// A datagram leaves a node; the attacker sees it.
    fn leave(&mut self, number: usize, to: SocketAddr, bytes: &[u8]) {
        if self.network.is_cut_off(number, self.now) {
            return;
        }
        let from = self.nodes[number].address;
        if let Some(from) = self.attacker.sees(number, from, to, bytes, &mut self.dice) {
            self.network.send(self.now, (from, to), bytes, &mut self.dice);
        }
    }

    /// Lets time pass until `end`, or until `is_over`, which is asked after each thing that happens.
    pub(super) fn run_until(&mut self, end: Duration, mut is_over: impl FnMut(&World) -> bool) -> bool {
        let mut at_once = 0;
        loop {
            if is_over(self) {
                return true;
            }
            let Some(next) = self.next_event().filter(|next| *next <= end) else { break };
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < MAX_AT_ONCE, "too much happens at one moment");
            self.now = self.now.max(next);
            self.happen();
            self.ambush();
        }
        self.now = self.now.max(end);
        false
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time, |_| false);
    }

    fn next_event(&self) -> Option<Duration> {
        let nodes = self.nodes.iter().filter(|node| node.is_up);
        let own = nodes.filter_map(|node| match node.sleeps_until {
            Some(until) => Some(until),
            None => node.next_deadline(),
        });
        own.chain(self.network.next()).min()
    }

    /// The one thing that is next.
    fn happen(&mut self) {
        let now = self.now;
        if self.network.next().is_some_and(|at| at <= now) {
            return self.arrive();
        }
        let is_due = |node: &Node| match node.sleeps_until {
            Some(until) => until <= now,
            None => node.next_deadline().is_some_and(|at| at <= now),
        };
        for number in 0..self.nodes.len() {
            if self.nodes[number].is_up && is_due(&self.nodes[number]) {
                self.on(number, |node| node.sleeps_until = None);
            }
        }
    }

    fn arrive(&mut self) {
        let max = self.dice.between(1, 8);
        let flights = self.network.take(max);
        let Some(first) = flights.first() else { return };
        let (from, to, stride) = (first.from, first.to, first.bytes.len());
        let train: Vec<u8> = flights.iter().flat_map(|flight| flight.bytes.iter().copied()).collect();
        let Some(at) = self.nodes.iter().position(|node| node.address == to) else { return };
        self.receive(at, &[Arrival { from, train: &train, stride }]);
    }

    /// Trains arrive at a node before its slow path sees any of them.
    pub(super) fn receive(&mut self, at: usize, arrivals: &[Arrival<'_>]) {
        let node = &self.nodes[at];
        if !node.is_there() || self.network.is_cut_off(at, self.now) {
            return;
        }
        let before = node.shown();
        arrivals.iter().for_each(|arrival| self.ledger.arrives(at, *arrival));
        let delivered = self.on_arrival(at, arrivals, |node| {
            let receive = |arrival: &Arrival<'_>| node.receive(arrival.from, arrival.train, arrival.stride);
            arrivals.iter().flat_map(receive).collect::<Vec<_>>()
        });
        for packet in &delivered {
            self.ledger.delivered(at, &self.nodes[at], packet);
        }
        self.ledger.arrived((at, &self.nodes[at]), arrivals, &before);
    }
}

/// What applications do.
impl World {
    /// `from` sends `count` packets to `to`.
    pub(super) fn talk(&mut self, from: usize, to: usize, count: usize) {
        self.talk_as(from, inner_address(from, 1), to, count);
    }

    /// The same, with a source address that may be another's.
    pub(super) fn talk_as(&mut self, from: usize, source: std::net::IpAddr, to: usize, count: usize) {
        let node = &self.nodes[from];
        if !node.is_there() {
            return;
        }
        let destination = inner_address(to, 1);
        let route = node.route(destination);
        let len = self.dice.between(20, 300);
        let (now, ledger) = (self.now, &mut self.ledger);
        let mut packet = || ledger.packet(now, (from, route), (source, destination), len);
        let packets: Vec<_> = (0..count).map(|_| packet()).collect();
        self.on(from, |node| node.send(&packets));
    }
}

/// What happened, for whoever looks for the reason.
impl World {
    pub(super) fn tell(&self, what: impl FnOnce(&World) -> String) {
        if self.is_told {
            println!("{:12.6} {}", self.now.as_secs_f64(), what(self));
        }
    }

    fn describe(&self, from: usize, to: SocketAddr, bytes: &[u8]) -> String {
        let to = match self.nodes.iter().position(|node| node.address == to) {
            Some(node) => format!("node {node}"),
            None => format!("nobody ({to})"),
        };
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let what = match bytes[0] {
            1 => format!("initiation {:08x}", word(4)),
            2 => format!("response {:08x} to {:08x}", word(4), word(8)),
            3 => format!("cookie reply to {:08x}", word(4)),
            _ if bytes.len() == 32 => format!("keepalive {} for {:08x}", word(8), word(4)),
            _ => format!("data {} for {:08x}", word(8), word(4)),
        };
        format!("node {from} sends to {to}: {what}")
    }
}
