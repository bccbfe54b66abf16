//! The network between the nodes: it loses, delays, doubles, reorders and damages datagrams, and is cut in two.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use super::dice::Dice;

/// What the network does to a datagram, each in how many of a thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) loss: usize,
    pub(super) doubling: usize,
    pub(super) damage: usize,
    pub(super) truncation: usize,
    /// Those that are late are late by up to `late_by`.
    pub(super) lateness: usize,
    pub(super) late_by: Duration,
    /// One way, for all others.
    pub(super) latency: Duration,
}

impl Weather {
    pub(super) fn fair(latency: Duration) -> Self {
        let late_by = Duration::ZERO;
        Weather { loss: 0, doubling: 0, damage: 0, truncation: 0, lateness: 0, late_by, latency }
    }
}

/// A datagram under way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Flight {
    pub(super) at: Duration,
    /// What leaves first arrives first.
    number: u64,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

pub(super) struct Network {
    pub(super) weather: Weather,
    flights: BinaryHeap<Reverse<Flight>>,
    count: u64,
    /// Nodes that nothing leaves or reaches, and until when.
    pub(super) cut_off: BTreeMap<usize, Duration>,
}

impl Network {
    pub(super) fn new(weather: Weather) -> Self {
        Network { weather, flights: BinaryHeap::new(), count: 0, cut_off: BTreeMap::new() }
    }

    pub(super) fn is_cut_off(&self, node: usize, now: Duration) -> bool {
        self.cut_off.get(&node).is_some_and(|until| now < *until)
    }

    /// Sends a datagram into the weather.
    pub(super) fn send(
        &mut self,
        now: Duration,
        (from, to): (SocketAddr, SocketAddr),
        bytes: &[u8],
        dice: &mut Dice,
    ) {
        let weather = self.weather;
        let copies = 1 + usize::from(dice.per_mille(weather.doubling));
        for _ in 0..copies {
            if dice.per_mille(weather.loss) {
                continue;
            }
            let mut bytes = bytes.to_vec();
            if dice.per_mille(weather.damage) {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            if dice.per_mille(weather.truncation) {
                bytes.truncate(dice.below(bytes.len()));
            }
            let is_late = dice.per_mille(weather.lateness);
            let late_by =
                if is_late { dice.duration(Duration::ZERO, weather.late_by) } else { Duration::ZERO };
            self.put(now + weather.latency + late_by, from, to, bytes);
        }
    }

    /// Has a datagram arrive at a moment, whatever the weather.
    pub(super) fn put(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.count += 1;
        self.flights.push(Reverse(Flight { at, number: self.count, from, to, bytes }));
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.flights.peek().map(|Reverse(flight)| flight.at)
    }

    /// Takes what arrives next, with what arrives just then from the same address at the same one and is of the same
    /// length, as receive offload has it.
    pub(super) fn take(&mut self, max: usize) -> Vec<Flight> {
        let mut train: Vec<Flight> = self.flights.pop().map(|Reverse(flight)| flight).into_iter().collect();
        while let (Some(first), Some(Reverse(next))) = (train.first(), self.flights.peek()) {
            let is_same = |a: &Flight, b: &Flight| {
                (a.at, a.from, a.to, a.bytes.len()) == (b.at, b.from, b.to, b.bytes.len())
            };
            if train.len() >= max || !is_same(first, next) {
                break;
            }
            train.extend(self.flights.pop().map(|Reverse(flight)| flight));
        }
        train
    }

    /// Loses all that is under way.
    pub(super) fn clear(&mut self) {
        self.flights.clear();
        self.cut_off.clear();
    }
}
