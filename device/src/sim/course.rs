//! The course of one simulation: faults for a while, of the kinds that the seed has chosen; then none, and whoever is meant
//! to talk must do so in time.

use std::time::Duration;

use adit_proto::limits::{
    ERASE_KEYS_AFTER, KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT,
    REKEY_TIMEOUT_JITTER_MAX_MS,
};

use super::attacker::Attack;
use super::dice::Dice;
use super::ledger::Counts;
use super::network::Weather;
use super::node::{Known, Node, inner_address, inner_prefix, public_key};
use super::world::World;
use crate::lock::Shared;

/// What may go wrong. Each seed has a choice of these: where all happen all the time little is ever achieved, and the bugs
/// of those who achieve something stay hidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Weather,
    Partition,
    /// A NAT gives somebody another address.
    Rebinding,
    /// Two NATs exchange addresses.
    Exchange,
    Sleep,
    Restart,
    Link,
    Clock,
    PrivateKey,
    PresharedKey,
    AllowedIps,
    /// A peer sends from an address that is not its own.
    Impostor,
    PeerRemoved,
    Endpoint,
    Keepalive,
    Attacker,
    /// He keeps datagrams back and sends them on from elsewhere.
    Relay,
    Ambush,
}

const FAULTS: [Fault; 18] = [
    Fault::Weather,
    Fault::Partition,
    Fault::Rebinding,
    Fault::Exchange,
    Fault::Sleep,
    Fault::Restart,
    Fault::Link,
    Fault::Clock,
    Fault::PrivateKey,
    Fault::PresharedKey,
    Fault::AllowedIps,
    Fault::Impostor,
    Fault::PeerRemoved,
    Fault::Endpoint,
    Fault::Keepalive,
    Fault::Attacker,
    Fault::Relay,
    Fault::Ambush,
];

/// By when everybody talks who is meant to, once the faults have stopped. The worst is that one side has a session which
/// the other has lost. It sends on that, hears nothing for KEEPALIVE_TIMEOUT + REKEY_TIMEOUT and a jitter, and initiates
/// (whitepaper 6.5), unless a handshake message that it sent is less than REKEY_TIMEOUT old (6.1): then only its
/// next packets start that timer again. Under siege the initiation and then the response are answered with a cookie, and
/// sent again with it after REKEY_TIMEOUT each (5.3, 6.4).
fn talking_takes(is_besieged: bool) -> Duration {
    let jitter = Duration::from_millis(REKEY_TIMEOUT_JITTER_MAX_MS.into());
    let new_handshake = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter;
    let cookies = if is_besieged { 2 * (REKEY_TIMEOUT + jitter) } else { Duration::ZERO };
    // The last one is for the packets, of which there is one each second, and the round trips.
    2 * new_handshake + cookies + Duration::from_secs(2)
}

/// What became of a simulation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) digest: u64,
    pub(super) counts: Counts,
    /// How long it took until all talked.
    pub(super) talked_after: Duration,
}

/// Runs one simulation.
///
/// # Panics
/// When something does not hold that must.
pub(super) fn run(seed: u64, is_told: bool) -> Outcome {
    let mut dice = Dice::new(seed);
    let count = *dice.pick(&[2, 2, 3, 3, 4]);
    let publics = dice.between(1, count);
    let share = *dice.pick(&[0, 100, 200, 300, 500]);
    let faults: Vec<Fault> = FAULTS.into_iter().filter(|_| dice.per_mille(share)).collect();
    let world = World::new(seed, count, publics, dice, is_told);
    let mut course = Course { world, faults, is_misled: false };
    course.world.tell(|_| format!("{count} nodes, {publics} of them public, {:?}", course.faults));
    course.go_wrong();
    if course.world.dice.one_in(50) {
        course.outrun_window();
    }
    let talked_after = course.heal();
    if course.world.dice.one_in(4) {
        course.stay_well();
    }
    course.end();
    let ledger = &course.world.ledger;
    Outcome { digest: ledger.digest(), counts: ledger.counts, talked_after }
}

struct Course {
    world: World,
    faults: Vec<Fault>,
    /// Somebody may believe that a public node is where it is not; only its administrator can change that.
    is_misled: bool,
}

/// Faults.
impl Course {
    fn go_wrong(&mut self) {
        let dice = &mut self.world.dice;
        if self.faults.contains(&Fault::Weather) {
            self.world.network.weather = bad_weather(dice);
        }
        if self.faults.contains(&Fault::Relay) {
            self.world.attacker.relays = *dice.pick(&[5, 50, 300]);
            self.is_misled = true;
        }
        if self.faults.contains(&Fault::Ambush) {
            self.world.attacker.ambushes = *dice.pick(&[50, 200]);
        }
        let pause = *dice.pick(&[200, 1000, 5000, 20_000]);
        for _ in 0..dice.between(10, 60) {
            self.step();
            let pause = self.world.dice.millis(1, 2 * pause);
            self.world.run_for(pause);
        }
    }

    /// So much is sent that the attacker's copies of the first of it are older than any replay window.
    fn outrun_window(&mut self) {
        let world = &mut self.world;
        let from = world.dice.below(world.nodes.len());
        let to = *world.dice.pick(&world.peers_of(from));
        world.talk(from, to, 100);
        world.run_for(Duration::from_secs(1));
        let copies = world.attacker.copies();
        // A ring of 8192 bits, of which one word is being cleared: there nothing says that a copy is one.
        for _ in 0..world.dice.between(8100, 8300) / 50 {
            world.talk(from, to, 50);
        }
        world.run_for(Duration::from_secs(1));
        copies.into_iter().for_each(|copy| world.replay_once(copy));
        world.run_for(Duration::from_secs(1));
    }

    /// Somebody talks, or something goes wrong.
    fn step(&mut self) {
        let world = &mut self.world;
        let from = world.dice.below(world.nodes.len());
        let to = *world.dice.pick(&world.peers_of(from));
        if self.faults.is_empty() || world.dice.one_in(2) {
            let count = *world.dice.pick(&[1, 1, 1, 2, 5, 20, 100]);
            return world.talk(from, to, count);
        }
        let fault = *world.dice.pick(&self.faults);
        world.tell(|_| format!("{fault:?} at {from}"));
        self.fail(fault, from, to);
    }

    fn fail(&mut self, fault: Fault, at: usize, peer: usize) {
        let world = &mut self.world;
        match fault {
            Fault::Weather | Fault::Relay | Fault::Ambush => {
                // They are there all the time.
            }
            Fault::Partition => {
                let until = world.now + world.dice.secs(1, 100);
                world.network.cut_off.insert(at, until);
            }
            Fault::Rebinding => {
                self.is_misled |= at < world.publics;
                world.nodes[at].address = world.new_address();
            }
            Fault::Exchange => {
                self.is_misled |= at.min(peer) < world.publics;
                let (a, b) = (world.nodes[at].address, world.nodes[peer].address);
                (world.nodes[at].address, world.nodes[peer].address) = (b, a);
            }
            Fault::Sleep => {
                let longest = *world.dice.pick(&[10, 200, 1000]);
                let until = world.now + world.dice.secs(1, longest);
                world.nodes[at].sleeps_until = Some(until);
            }
            Fault::Restart => {
                // Whoever remembers nothing takes old initiations, also from the attacker.
                self.is_misled = true;
                world.ledger.starts_anew(at);
                world.nodes[at].sleeps_until = None;
                world.on(at, Node::restart);
            }
            Fault::Link => {
                world.ledger.starts_anew(at);
                world.on(at, |node| if node.is_up { node.down() } else { node.up() });
            }
            Fault::Clock => self.set_clock(at),
            Fault::PrivateKey => self.change_private_key(at),
            Fault::PresharedKey => {
                let key = [world.dice.below(3) as u8; 32];
                world.on(at, |node| node.set_preshared_key(peer, key));
            }
            Fault::AllowedIps => self.move_prefix(at, peer),
            Fault::Impostor => {
                let source = inner_address(world.dice.below(world.nodes.len()), 1);
                world.talk_as(at, source, peer, 2);
            }
            Fault::PeerRemoved => {
                world.ledger.forget_initiations(at);
                match world.nodes[at].peers.contains_key(&peer) {
                    true => world.on(at, |node| node.remove_peer(peer)),
                    false => {
                        let known = world.known(peer);
                        world.on(at, |node| node.add_peer(peer, known));
                    }
                }
            }
            Fault::Endpoint => {
                self.is_misled = true;
                let addresses = [world.nodes[at].address, world.nodes[peer].address, world.new_address()];
                let address = *world.dice.pick(&addresses);
                world.on(at, |node| node.set_endpoint(peer, address));
            }
            Fault::Keepalive => {
                let seconds = *world.dice.pick(&[0, 1, 5, 25]);
                world.on(at, |node| node.set_keepalive(peer, seconds));
            }
            Fault::Attacker => {
                let attack = *world.dice.pick(&Attack::ALL);
                self.is_misled |= attack.may_mislead();
                world.attack(attack);
            }
        }
    }

    fn set_clock(&mut self, at: usize) {
        let world = &mut self.world;
        let offset = match world.dice.below(4) {
            0 => 0,
            1 => -(world.dice.below(100_000) as i64),
            2 => world.dice.below(100_000) as i64,
            _ => world.dice.below(20) as i64 - 10,
        };
        world.nodes[at].wall_offset = offset;
        world.wall_ahead = world.wall_ahead.max(offset);
    }

    /// Others learn of it when they are told.
    fn change_private_key(&mut self, at: usize) {
        let world = &mut self.world;
        let key = world.dice.bytes();
        world.ledger.know_key(public_key(key));
        world.ledger.starts_anew(at);
        world.on(at, |node| node.set_private_key(key));
        let peer = world.dice.below(world.nodes.len());
        self.tell_key(peer, at);
    }

    fn tell_key(&mut self, node: usize, peer: usize) {
        let world = &mut self.world;
        let is_old = |known: &Known| known.key != world.nodes[peer].public_key;
        if world.nodes[node].peers.get(&peer).is_some_and(is_old) {
            let known = world.known(peer);
            world.on(node, |node| {
                node.remove_peer(peer);
                node.add_peer(peer, known);
            });
        }
    }

    fn move_prefix(&mut self, at: usize, peer: usize) {
        let world = &mut self.world;
        let whose = world.dice.below(world.nodes.len());
        let prefix = match world.dice.below(3) {
            0 => adit_control::Prefix::new(inner_address(whose, 0), 8).expect("IPv4 has longer prefixes"),
            1 => adit_control::Prefix::host(inner_address(whose, 1)),
            _ => inner_prefix(whose),
        };
        let is_taken = world.dice.one_in(3);
        world.on(at, |node| if is_taken { node.take(prefix) } else { node.give(prefix, peer) });
    }
}

fn bad_weather(dice: &mut Dice) -> Weather {
    let mut often = || *dice.pick(&[0, 0, 10, 100, 400]);
    let (loss, doubling, damage, truncation, lateness) = (often(), often(), often(), often(), often());
    let latest = *dice.pick(&[100, 2000, 30_000]);
    Weather {
        loss,
        doubling,
        damage,
        truncation,
        lateness,
        late_by: dice.millis(1, latest),
        latency: dice.millis(1, 400),
    }
}

/// Peace.
impl Course {
    /// The faults stop. Administrators put right what they were told, and clocks are later than any has ever said.
    fn heal(&mut self) -> Duration {
        let world = &mut self.world;
        world.tell(|_| "the faults stop".into());
        world.network.clear();
        world.network.weather = Weather::fair(world.dice.millis(1, 200));
        let is_besieged = self.faults.contains(&Fault::Ambush) && world.dice.one_in(3);
        (world.attacker.relays, world.attacker.ambushes) = (0, if is_besieged { 1000 } else { 0 });
        let wall_offset = world.wall_ahead + 1;
        for node in 0..world.nodes.len() {
            world.nodes[node].wall_offset = wall_offset;
            world.nodes[node].sleeps_until = None;
            if !world.nodes[node].is_up {
                world.ledger.starts_anew(node);
                world.on(node, Node::up);
            }
        }
        for node in 0..world.nodes.len() {
            for peer in self.world.peers_of(node) {
                self.put_right(node, peer);
            }
        }
        let after = self.all_talk(talking_takes(is_besieged));
        self.world.attacker.ambushes = 0;
        after
    }

    fn put_right(&mut self, node: usize, peer: usize) {
        self.tell_key(node, peer);
        let world = &mut self.world;
        let known = world.known(peer);
        let prefixes: Vec<_> = world.nodes[node].routes.keys().copied().collect();
        world.on(node, |node| match node.peers.get(&peer).cloned() {
            None => node.add_peer(peer, known.clone()),
            Some(old) => {
                if old.preshared_key != known.preshared_key {
                    node.set_preshared_key(peer, known.preshared_key);
                }
                for prefix in prefixes {
                    if prefix.len() != 24 {
                        node.take(prefix);
                    }
                }
                if node.routes.get(&inner_prefix(peer)) != Some(&peer) {
                    node.give(inner_prefix(peer), peer);
                }
            }
        });
        if let (true, Some(endpoint)) = (self.is_misled, known.endpoint) {
            world.on(node, |node| node.set_endpoint(peer, endpoint));
        }
    }

    /// Who sends to whom: whoever cannot be found speaks to those who can, and some are answered.
    fn directions(&mut self) -> Vec<(usize, usize)> {
        let world = &mut self.world;
        let mut directions = Vec::new();
        for from in 0..world.nodes.len() {
            for to in world.peers_of(from) {
                if from >= world.publics || to < world.publics || world.dice.one_in(2) {
                    directions.push((from, to));
                }
            }
        }
        directions
    }

    /// All send once a second, until each has heard.
    fn all_talk(&mut self, in_time: Duration) -> Duration {
        let directions = self.directions();
        let world = &mut self.world;
        let start = world.now;
        let all_heard = |world: &World| {
            directions.iter().all(|(from, to)| world.ledger.fates(*from, *to, start).any(|heard| heard))
        };
        while world.now < start + in_time {
            directions.iter().for_each(|(from, to)| world.talk(*from, *to, 1));
            if world.run_until(world.now + Duration::from_secs(1), all_heard) {
                return world.now - start;
            }
        }
        let mut silent = directions.clone();
        silent.retain(|(from, to)| !world.ledger.fates(*from, *to, start).any(|heard| heard));
        panic!("{in_time:?} after the faults have stopped nothing was heard of {silent:?}");
    }

    /// Nothing is lost or overtaken any more, whatever keys are exchanged meanwhile.
    fn stay_well(&mut self) {
        let directions = self.directions();
        let world = &mut self.world;
        // A session that the faults kept from being renewed ends a latency earlier at the responder than at the initiator,
        // and what is sent last is lost. Whoever sends or answers now renews it.
        let renewed = world.now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT;
        while world.now < renewed {
            directions.iter().for_each(|(from, to)| world.talk(*from, *to, 1));
            world.run_for(Duration::from_secs(1));
        }
        // An answer to an initiation that was late, which nobody has confirmed, stays until the session is renewed; it then takes
        // the place of the one that is still in use, as in the kernel, and what is under way in that is lost.
        let renewed = world.now + REJECT_AFTER_TIME;
        while world.now < renewed {
            directions.iter().for_each(|(from, to)| world.talk(*from, *to, 1));
            world.run_for(Duration::from_secs(5));
        }
        let start = world.now;
        world.ledger.expect_order();
        world.tell(|_| "nothing is to be lost from now on".into());
        let longest = *world.dice.pick(&[3000, 10_000, 40_000]);
        while world.now < start + Duration::from_secs(300) {
            for (from, to) in &directions {
                let count = *world.dice.pick(&[1, 1, 1, 1, 1, 1, 3, 30]);
                world.talk(*from, *to, count);
            }
            let pause = world.dice.millis(1, longest);
            world.run_for(pause);
        }
        world.run_for(REKEY_TIMEOUT);
        for (from, to) in directions {
            let lost = world.ledger.fates(from, to, start).filter(|is_delivered| !is_delivered).count();
            assert_eq!(lost, 0, "of {from} to {to} nothing is lost while nothing fails");
        }
    }

    /// When all is silent keys are erased and nothing is left; at the latest, when interfaces go down.
    fn end(&mut self) {
        let world = &mut self.world;
        let is_silent = world.dice.one_in(2);
        for number in 0..world.nodes.len() {
            for peer in world.peers_of(number) {
                world.on(number, |node| node.set_keepalive(peer, 0));
            }
        }
        if is_silent {
            world.run_for(ERASE_KEYS_AFTER + 2 * REKEY_ATTEMPT_TIME);
        }
        for number in 0..world.nodes.len() {
            if !is_silent {
                world.on(number, Node::down);
            }
            let device = &world.nodes[number].device;
            assert!(device.indices.shared().is_empty(), "node {number} keeps keys for ever");
        }
    }
}
