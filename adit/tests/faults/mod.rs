//! Every system call that the engine makes fails in turn: at the start, one after the other, and while it runs, for a while.
//!
//! `table.rs` says which calls there are and how they fail, and a call that it does not know fails the tests. `./check` tries
//! each call; all errors of all calls are tried with `LAB_FAULTS=all`:
//!
//! ```text
//! LAB_FAULTS=all cargo test -p adit --test integration faults:: -- --nocapture
//! ```

mod limits;
mod running;
mod start;
mod table;

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// Whether everything is to be tried, for as long as that takes.
fn is_whole() -> bool {
    env::var("LAB_FAULTS").is_ok_and(|value| value == "all")
}

/// Tries all of `cases`, some at a time, each of these at a place of its own; panics with what failed.
fn try_all<C: Sync, P>(
    cases: &[C],
    at_a_time: usize,
    place: impl Fn() -> P + Sync,
    attempt: impl Fn(&mut P, &C) -> Result<(), String> + Sync,
) {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_a_time.min(cases.len()) {
            scope.spawn(|| {
                let mut place = place();
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    if let Err(failure) = attempt(&mut place, case) {
                        println!("FAILED: {failure}");
                        failures.lock().expect("nobody panics with it").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    let all = failures.join("\n\n");
    assert!(failures.is_empty(), "{} of {} failed:\n{all}", failures.len(), cases.len());
}
