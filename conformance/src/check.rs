//! What a check is, and how it is run: in a namespace of its own, with a deadline, panics counted as failures.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::Scene;

/// A rule, and how it is seen from outside whether an engine keeps it.
#[derive(Clone, Copy)]
pub struct Check {
    /// `group/name`.
    pub name: &'static str,
    /// The rule and whose it is, in one line.
    pub why: &'static str,
    /// Whether it waits for timers of minutes.
    pub slow: bool,
    /// Whether it uses up the machine for moments: such checks run one after the other, beside the others.
    floods: bool,
    /// Panics if the rule is broken.
    pub body: fn(&mut Scene),
}

impl Check {
    /// One that takes some seconds, twenty at most.
    pub const fn new(name: &'static str, why: &'static str, body: fn(&mut Scene)) -> Check {
        Check { name, why, slow: false, floods: false, body }
    }

    /// One that floods the engine.
    pub const fn flood(name: &'static str, why: &'static str, body: fn(&mut Scene)) -> Check {
        Check { name, why, slow: false, floods: true, body }
    }

    /// One that takes minutes.
    pub const fn slow(name: &'static str, why: &'static str, body: fn(&mut Scene)) -> Check {
        Check { name, why, slow: true, floods: false, body }
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(if self.slow { 260 } else { 45 })
    }
}

/// What came of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The rule is kept.
    Pass,
    /// It is not: what was seen.
    Fail(String),
    /// Nobody knows: why.
    Skip(String),
}

/// An outcome and how long it took.
pub struct Report {
    /// Of which check.
    pub check: Check,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
}

/// Ends the check without an outcome.
pub fn skip(reason: &str) -> ! {
    panic::panic_any(Skipped(reason.to_owned()))
}

struct Skipped(String);

thread_local! {
    /// What the last panic of this thread was about: where, and in which words.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says for the report, instead of printing it.
pub fn catch_panics() {
    panic::set_hook(Box::new(|info| {
        let line = info.location().map_or(0, std::panic::Location::line);
        let file = info.location().map_or("", |at| at.file().rsplit('/').next().unwrap_or_default());
        let text = info.payload_as_str().unwrap_or_default().replace('\n', " ");
        LAST_PANIC.with(|last| *last.borrow_mut() = format!("{text} ({file}:{line})"));
    }));
}

/// Runs `checks` against the engine that `command` starts, `jobs` at a time, and tells `done` of each as it ends.
pub fn run_all(checks: &[Check], command: &str, jobs: usize, done: impl Fn(&Report) + Sync) -> Vec<Report> {
    let (floods, others): (Vec<Check>, Vec<Check>) = checks.iter().partition(|check| check.floods);
    let (floods, others) = (Mutex::new(floods.into_iter()), Mutex::new(others.into_iter()));
    let reports = Mutex::new(Vec::new());
    let work = |queue: &Mutex<std::vec::IntoIter<Check>>| {
        loop {
            let Some(check) = queue.lock().expect("nobody panics with it").next() else { return };
            let report = run(check, command);
            done(&report);
            reports.lock().expect("nobody panics with it").push(report);
        }
    };
    thread::scope(|scope| {
        let (work, floods, others) = (&work, &floods, &others);
        scope.spawn(move || work(floods));
        (0..jobs).for_each(|_| {
            scope.spawn(move || work(others));
        });
    });
    let mut reports = reports.into_inner().expect("nobody panicked with it");
    reports.sort_by_key(|report| checks.iter().position(|check| check.name == report.check.name));
    reports
}

/// Runs one check on a thread of its own. A check whose time is over loses its engine, and so ends soon.
fn run(check: Check, command: &str) -> Report {
    let start = Instant::now();
    let pid = Arc::new(AtomicU32::new(0));
    let (sender, receiver) = mpsc::channel();
    let (command, told) = (command.to_owned(), Arc::clone(&pid));
    thread::spawn(move || {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut scene = Scene::new(&command, &told);
            (check.body)(&mut scene);
        }));
        // Nobody listens any more if the deadline has passed.
        let _ = sender.send(result.map_or_else(|payload| judge(&*payload), |()| Outcome::Pass));
    });
    let outcome = receiver.recv_timeout(check.limit()).unwrap_or_else(|_| {
        if let pid @ 1.. = pid.load(Ordering::Relaxed) {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        // It cleans up after itself, if it can.
        let _ = receiver.recv_timeout(Duration::from_secs(10));
        Outcome::Fail(format!("did not end within {:?}", check.limit()))
    });
    Report { check, outcome, time: start.elapsed() }
}

/// Whether the engine starts at all: what it said if not.
///
/// # Errors
/// That.
pub fn try_start(command: &str) -> Result<(), String> {
    let start = || drop(Scene::new(command, &AtomicU32::new(0)));
    panic::catch_unwind(start).map_err(|_| LAST_PANIC.with(|last| last.borrow().clone()))
}

fn judge(payload: &(dyn Any + Send)) -> Outcome {
    match payload.downcast_ref::<Skipped>() {
        Some(Skipped(reason)) => Outcome::Skip(reason.clone()),
        None => Outcome::Fail(LAST_PANIC.with(|last| last.borrow().clone())),
    }
}
