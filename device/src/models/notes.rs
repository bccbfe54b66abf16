//! What is only noted: reasons, and when there is something to do.

use std::sync::Arc;
use std::time::Duration;

use adit_control::Reason;
use adit_proto::handshake::Timestamps;
use adit_proto::time::Instant;

use super::scene::{Scene, Side};
use super::{explore, go, join};
use crate::deadlines::Deadlines;
use crate::outside;
use crate::peer::Peer;
use crate::why::Note;

/// Nobody waits for another; counters are exact, whoever comes too late for the events.
#[test]
fn reasons_are_counted_exactly() {
    explore("two threads note something", || {
        let scene = Scene::new();
        let peer = scene.near.peer();
        let noting = [1, 2].map(|count| {
            let (device, peer) = (scene.near.device.clone(), peer.clone());
            go(move || device.note(Note::new(Reason::Undecryptable).times(count).peer(&peer)))
        });
        let device = scene.near.device.clone();
        let asking = go(move || {
            let seen = device.why(&[]);
            assert!(seen.tallies.iter().all(|tally| tally.count <= 3));
        });
        join(noting.into_iter().chain([asking]));
        let why = scene.near.device.why(&[peer]);
        assert_eq!(why.tallies.iter().map(|tally| tally.count).collect::<Vec<_>>(), [3]);
        assert_eq!(why.peers[0].tallies[0].count, 3);
        let events: Vec<_> = why.events.iter().map(|event| event.count).collect();
        assert!(events.len() == 1 && events[0] <= 3, "{events:?}");
    });
}

/// Workers add deadlines while the slow path takes those that are reached.
#[test]
fn the_timer_is_set_to_the_earliest_deadline() {
    explore("deadlines", || {
        let _outside = outside::Guard::new(1);
        let at = |seconds| Instant::from_nanos(0) + Duration::from_secs(seconds);
        let deadlines = Arc::new(Deadlines::new().expect("a descriptor"));
        let peer = Arc::new(Peer::new(Side::Far.key(), 1, Timestamps::default(), Arc::default()));
        let workers = [[3, 30], [5, 20]].map(|times| {
            let (deadlines, peer) = (deadlines.clone(), peer.clone());
            go(move || {
                for seconds in times {
                    let _ = deadlines.add(at(seconds), &peer);
                }
                0
            })
        });
        let taking = deadlines.clone();
        let slow_path = go(move || std::iter::from_fn(|| taking.pop_due(at(10))).count());
        let taken: usize = join(workers.into_iter().chain([slow_path])).into_iter().sum();
        let (earliest, left) = deadlines.pending();
        assert_eq!(taken + left, 4, "none is lost");
        assert_eq!(outside::timer(), earliest, "the timer is right");
    });
}
