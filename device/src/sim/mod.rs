//! Whole networks of engines on a virtual clock: what no single test would think of.
//!
//! Each seed is a course of events (`course.rs`): two to four nodes, each with the engine that the daemon runs, but for its
//! threads, its interface and its sockets; a network that loses, delays, doubles, reorders and damages (`network.rs`); nodes
//! that move, sleep, restart and set their clocks, and administrators who change their minds; and somebody who sees all and
//! sends what he likes (`attacker.rs`). At every step the ledger (`ledger.rs`) looks whether all is as it must be:
//!
//! - no nonce is used twice with a key, and no key before the other side has confirmed it, when it is too old, or void,
//! - what is delivered was sent to that peer, by the one whose address it bears, and is delivered once,
//! - what moves an endpoint, or anything, is authentic and new,
//! - under load only who has shown a cookie is answered,
//! - a peer is called at most once in five seconds,
//! - what a node keeps is bounded by the number of its peers.
//!
//! Then the faults stop, and all who are meant to talk must do so within the time that follows from the protocol's timers;
//! nothing more is lost while keys are exchanged; in silence all keys are erased.
//!
//! What the engine has of the system comes from `outside.rs`, so that a seed replays exactly. A seed that fails is named, and
//!
//! ```text
//! SIM_SEEDS=4711 cargo test -p adit-device sim:: -- --nocapture
//! ```
//!
//! tells all that happens in it. `SIM_SEEDS=10000..1000000`, with `--release` perhaps, is a longer run.
//!
//! Known, and seen in one of ten thousand seeds: where initiations cross and one is overtaken by the other's response, both
//! sides may end as responders of the session that they send on. Nobody renews it at two minutes then, and at three what is
//! under way is lost.

mod attacker;
mod course;
mod dice;
mod ledger;
mod network;
mod node;
pub(crate) mod outside;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use course::{Outcome, run};

use crate::lock::Lock;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seeds that are run when nobody says which.
const SEEDS: Range<u64> = 0..2000;

/// The seeds to run, and whether to tell what happens in them.
fn seeds() -> (Range<u64>, bool) {
    let Ok(wanted) = std::env::var("SIM_SEEDS") else { return (SEEDS, false) };
    let number = |text: &str| text.parse::<u64>().expect("SIM_SEEDS is a number or FIRST..END");
    match wanted.split_once("..") {
        Some((first, end)) => (number(first)..number(end), false),
        None => (number(&wanted)..number(&wanted) + 1, true),
    }
}

#[test]
fn networks_do_what_they_must() {
    let (seeds, is_told) = seeds();
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let outcomes = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Relaxed)).filter(|seed| *seed < seeds.end) {
                    match catch_unwind(AssertUnwindSafe(|| run(seed, is_told))) {
                        Ok(outcome) => outcomes.locked().push(outcome),
                        Err(_) => {
                            eprintln!("this was seed {seed}: SIM_SEEDS={seed} tells what happens in it");
                            failed.locked().push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.locked();
    assert!(failed.is_empty(), "{} of {seeds:?} failed: {failed:?}", failed.len());
    summarize(&outcomes.locked());
}

fn summarize(outcomes: &[Outcome]) {
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>();
    let slowest = outcomes.iter().map(|outcome| outcome.talked_after).max().unwrap_or(Duration::ZERO);
    println!(
        "{} networks: {} datagrams, {} initiations, {} responses, {} cookies, {} packets delivered, {} moves; all talked \
         after {slowest:?} at most",
        outcomes.len(),
        sum(|outcome| outcome.counts.datagrams),
        sum(|outcome| outcome.counts.initiations),
        sum(|outcome| outcome.counts.responses),
        sum(|outcome| outcome.counts.cookies),
        sum(|outcome| outcome.counts.delivered),
        sum(|outcome| outcome.counts.roamed),
    );
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        assert_eq!(run(seed, false).digest, run(seed, false).digest, "seed {seed}");
    }
}
