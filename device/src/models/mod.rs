//! Models of what threads share: the engine's own code, with loom's locks and atomics (`sync.rs`), in every order that a few
//! threads can take it in.
//!
//! ```text
//! cargo test -p adit-device --features loom models::
//! ```
//!
//! Each model is a scene with threads that do one thing each, and what must hold whatever the order. loom runs it again
//! and again until it has seen every order in which at most two threads are interrupted where they need not wait
//! (`LOOM_MAX_PREEMPTIONS=3` looks further, and takes longer), and every value that a load may see. It stops where nobody can go on:
//! that is how a wake-up that was lost shows.
//!
//! What is not here: loom takes SeqCst for AcqRel, so what needs more than that shows as an error. Counted references are the
//! standard library's, and trusted. Descriptors are stood in for.

mod flush;
mod keys;
mod notes;
mod removal;
mod scene;
mod slow_path;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::model::Builder;
use loom::thread::{self, JoinHandle};

/// Interruptions in an order at most.
const PREEMPTIONS: usize = 2;
/// Of a thread, in words: cryptography needs more than loom gives.
const STACK: usize = 1 << 17;

/// Runs `model` in every order.
pub(crate) fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = 50_000;
    let (model, orders) = (Arc::new(model), Arc::new(AtomicUsize::new(0)));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        let model = model.clone();
        go(move || model()).join().expect("the model's thread");
    });
    println!("{name}: {} orders", orders.load(Relaxed));
}

/// Starts a thread.
pub(crate) fn go<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().stack_size(STACK).spawn(f).expect("loom has a thread left")
}

/// Waits for all.
pub(crate) fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("a thread of the model")).collect()
}
