//! What holds whatever happens: random operations on two nodes, under a seed.

use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{Address, Pair, packet};

/// What the property tests do to a pair.
#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, count: u32 },
    Keepalive { from: usize },
    Run { millis: u64 },
    Jump { secs: u64 },
    Lose { from: usize, lost: bool },
    Initiate { from: usize },
    Expire { from: usize },
    Restart { from: usize },
    Roam { from: usize, port: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let from = || 0..2usize;
    prop_oneof![
        4 => (from(), 1..80u32).prop_map(|(from, count)| Step::Send { from, count }),
        1 => from().prop_map(|from| Step::Keepalive { from }),
        4 => (0..3000u64).prop_map(|millis| Step::Run { millis }),
        2 => (0..200u64).prop_map(|secs| Step::Jump { secs }),
        1 => (from(), any::<bool>()).prop_map(|(from, lost)| Step::Lose { from, lost }),
        1 => from().prop_map(|from| Step::Initiate { from }),
        1 => from().prop_map(|from| Step::Expire { from }),
        1 => from().prop_map(|from| Step::Restart { from }),
        1 => (from(), 1..9u16).prop_map(|(from, port)| Step::Roam { from, port }),
    ]
}

fn run(seed: u64, steps: &[Step]) -> Pair {
    let mut pair = Pair::new(seed);
    let mut number = 0;
    for step in steps {
        match *step {
            Step::Send { from, count } => {
                for _ in 0..count {
                    pair.send(from, &packet(number));
                    number += 1;
                }
            }
            Step::Keepalive { from } => {
                pair.nodes[from].session.keepalive();
                pair.nodes[from].flush(pair.now);
                pair.collect();
            }
            Step::Run { millis } => pair.run_for(Duration::from_millis(millis)),
            Step::Jump { secs } => pair.run_secs(secs),
            Step::Lose { from, lost } => pair.lost[from] = lost,
            Step::Initiate { from } => pair.initiate(from),
            Step::Expire { from } => pair.nodes[from].session.expire_keypairs(),
            Step::Restart { from } => {
                pair.nodes[from].stop();
                pair.nodes[from].session.start();
            }
            Step::Roam { from, port } => pair.addresses[from] = Address::new(port),
        }
        pair.nodes.iter().for_each(|node| assert!(node.indices.len() <= 4, "three keys and one initiation"));
    }
    pair
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_nonce_is_used_twice_and_no_packet_delivered_twice_or_out_of_order(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut pair = run(seed, &steps);
        let mut used = BTreeSet::new();
        for sent in &pair.log {
            if let Some((receiver, counter)) = sent.data() {
                prop_assert!(used.insert((sent.from, receiver, counter)));
            }
        }
        for node in &pair.nodes {
            // Packets carry increasing numbers, and the network keeps the order.
            prop_assert!(node.received.is_sorted_by(|a, b| a < b));
        }

        // Whatever happened before: once nothing is lost any more, both directions work again.
        pair.lost = [false; 2];
        pair.run_secs(200);
        pair.nodes.iter_mut().for_each(|node| node.received.clear());
        for from in 0..2 {
            pair.send(from, &packet(u32::MAX));
            pair.run_secs(10);
            prop_assert_eq!(pair.nodes[1 - from].received.last(), Some(&packet(u32::MAX)));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..20),
    ) {
        prop_assert!(run(seed, &steps).log == run(seed, &steps).log);
    }

    /// GotaTun 0.3.0: a clock that is not monotonic must not bring the engine down.
    #[test]
    fn no_clock_makes_it_panic(
        seed in any::<u64>(),
        steps in proptest::collection::vec((step(), any::<u64>(), any::<bool>()), 1..40),
    ) {
        let mut pair = Pair::new(seed);
        for (step, clock, jumps) in steps {
            if jumps {
                pair.now = Instant::from_nanos(clock);
            }
            match step {
                Step::Send { from, count } => (0..count).for_each(|number| pair.send(from, &packet(number))),
                Step::Initiate { from } => pair.initiate(from),
                _ => pair.nodes.iter_mut().for_each(|node| node.expire(Instant::from_nanos(clock))),
            }
            pair.collect();
            // Time stands still, so this only delivers what has arrived, if the clock says so.
            pair.run_for(Duration::from_millis(clock % 50));
        }
    }
}
