//! Whoever has something for the slow path wakes it.

use std::io;
use std::sync::Arc;

use adit_control::{Reason, Set};
use adit_proto::message::Message;

use super::scene::{Engine, Scene, Side};
use super::{explore, go, join};
use crate::lock::Lock;
use crate::outside::{Sent, take_sent};
use crate::queue::{Arrival, Lane};
use crate::slow_path::{Outside, serve};
use crate::state::Device;

/// How many handshakes of strangers it has taken up.
fn taken_up(device: &Device) -> u64 {
    let tallies = device.why(&[]).tallies;
    tallies.iter().find(|tally| tally.reason == Reason::UnknownPeer).map_or(0, |tally| tally.count)
}

/// All that there is to wait for are the workers; how many handshakes have been taken up is told whenever none is left.
struct Workers<'a> {
    device: &'a Device,
    told: &'a (loom::sync::Mutex<u64>, loom::sync::Condvar),
}

impl Outside for Workers<'_> {
    fn wait(&mut self) -> io::Result<()> {
        *self.told.0.locked() = taken_up(self.device);
        self.told.1.notify_all();
        self.device.slow_path.wait();
        Ok(())
    }

    fn receive(&mut self) -> bool {
        false
    }
}

/// Workers bring handshake messages of nobody's while the slow path runs, `expected` in all: none is slept through, or this
/// would find that nobody can go on.
fn all_are_taken_up<const N: usize>(expected: u64, bring: [fn(&Engine, &Sent); N]) {
    let mut scene = Scene::new();
    scene.far.send(&[1]);
    let initiation = Arc::new(take_sent().pop().expect("it begins"));
    let nobody = Set { replace_peers: true, ..Set::default() };
    scene.configuration.apply(&scene.near.device, nobody).expect("nothing can fail");
    scene.near.device.slow_path.clear();

    let progress = Arc::new((loom::sync::Mutex::new(0), loom::sync::Condvar::new()));
    let (device, told) = (scene.near.device.clone(), progress.clone());
    let slow_path = go(move || {
        let mut workers = Workers { device: &device, told: &told };
        serve(&device, &mut workers).expect("waiting cannot fail");
    });
    let workers = bring.map(|bring| {
        let (near, initiation) = (scene.near.clone(), initiation.clone());
        go(move || bring(&near, &initiation))
    });
    join(workers);
    let mut seen = progress.0.locked();
    while *seen < expected {
        seen = progress.1.wait(seen).expect("loom's locks are not poisoned");
    }
    drop(seen);
    scene.near.device.end();
    join([slow_path]);
    assert!(scene.near.device.inbox.is_empty());
}

fn bring(near: &Engine, initiation: &Sent) {
    assert!(near.receive(initiation).is_empty());
}

/// As if it showed a cookie.
fn bring_as_proven(near: &Engine, initiation: &Sent) {
    let Some(Message::Handshake(message)) = Message::parse(&initiation.bytes) else {
        panic!("an initiation")
    };
    let arrival = Arrival { message, from: Side::Far.address(), local: None };
    if near.device.inbox.push_arrival(Lane::Proven, arrival) == Ok(true) {
        near.device.slow_path.wake();
    }
}

/// Only the first worker that finds nothing there wakes the slow path.
#[test]
fn no_arrival_is_slept_through() {
    explore("arrivals", || {
        let twice: fn(&Engine, &Sent) = |near, initiation| (0..2).for_each(|_| bring(near, initiation));
        all_are_taken_up(3, [twice, bring]);
    });
}

/// One lane may be emptied while the other, with which it was done before, fills.
#[test]
fn no_lane_is_slept_through() {
    explore("lanes", || all_are_taken_up(2, [bring, bring_as_proven]));
}
