//! Whoever has something for the slow path wakes it.

use std::io;
use std::sync::Arc;

use adit_control::{Reason, Set};

use super::scene::Scene;
use super::{explore, go, join};
use crate::lock::Lock;
use crate::outside::take_sent;
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

/// Two workers bring handshake messages; only the first that finds nothing there wakes the slow path. Were that lost,
/// it would sleep for ever, and this would find that nobody can go on.
#[test]
fn no_arrival_is_slept_through() {
    explore("arrivals", || {
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
        let workers = [2, 1].map(|times| {
            let (near, initiation) = (scene.near.clone(), initiation.clone());
            go(move || (0..times).for_each(|_| assert!(near.receive(&initiation).is_empty())))
        });
        join(workers);
        let mut seen = progress.0.locked();
        while *seen < 3 {
            seen = progress.1.wait(seen).expect("loom's locks are not poisoned");
        }
        drop(seen);
        scene.near.device.end();
        join([slow_path]);
        assert!(scene.near.device.inbox.is_empty());
    });
}
