//! When the actors act and when they rest, and what each has done.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the actors may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(180);

/// Something that happened which may cost packets, and its name.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// From when.
    pub start: Instant,
    /// Until when.
    pub end: Instant,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    /// How often, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// In order of their ends.
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Rest,
    Act,
    Over,
}

struct Inner {
    phase: Phase,
    resting: usize,
    deeds: Deeds,
    handshake: String,
}

/// Shared by all threads.
pub struct Stage {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// Somebody who does something to the engines.
pub trait Actor: Send {
    /// Does it once.
    fn act(&mut self, stage: &Stage);
    /// The time until the next.
    fn pause(&mut self) -> Duration;
    /// Leaves the engines as it found them.
    fn rest(&mut self, _stage: &Stage) {}
}

impl Stage {
    /// Where nobody acts yet.
    pub fn new() -> Stage {
        let (deeds, handshake) = (Deeds::default(), String::new());
        Stage {
            inner: Mutex::new(Inner { phase: Phase::Rest, resting: 0, deeds, handshake }),
            changed: Condvar::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut inner = self.inner();
        inner.phase = phase;
        inner.resting = 0;
        self.changed.notify_all();
    }

    /// Lets them act.
    pub fn act(&self) {
        self.enter(Phase::Act);
    }

    /// Lets them end.
    pub fn end(&self) {
        self.enter(Phase::Over);
    }

    /// Has all of them rest.
    ///
    /// # Errors
    /// When one does not come to rest.
    pub fn rest(&self, actors: usize) -> Result<(), String> {
        self.enter(Phase::Rest);
        let waiting = self.changed.wait_timeout_while(self.inner(), PATIENCE, |inner| inner.resting < actors);
        let (inner, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        if inner.resting == actors { Ok(()) } else { Err("an engine does not answer any more".to_owned()) }
    }

    /// What an actor's thread does.
    pub fn play(&self, actor: &mut dyn Actor) {
        loop {
            let phase = self.inner().phase;
            match phase {
                Phase::Over => return,
                Phase::Act => {
                    actor.act(self);
                    self.pause(actor.pause(), |inner| inner.phase == Phase::Act);
                }
                Phase::Rest => {
                    actor.rest(self);
                    self.inner().resting += 1;
                    self.changed.notify_all();
                    self.pause(Duration::MAX, |inner| inner.phase == Phase::Rest);
                }
            }
        }
    }

    fn pause(&self, time: Duration, is_as_it_was: impl Fn(&Inner) -> bool) {
        drop(self.changed.wait_timeout_while(self.inner(), time, |inner| is_as_it_was(inner)));
    }

    /// Counts what was done.
    pub fn did(&self, what: &'static str, count: u64) {
        *self.inner().deeds.counts.entry(what).or_default() += count;
    }

    /// Does something that may cost packets.
    pub fn disturb<T>(&self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let mut inner = self.inner();
        inner.deeds.events.push(Event { name, start, end: Instant::now() });
        *inner.deeds.counts.entry(name).or_default() += 1;
        result
    }

    /// The time of the last handshake of the engines with each other: another one than before is one more.
    pub fn note_handshakes(&self, time: String) {
        let mut inner = self.inner();
        if inner.handshake != time {
            inner.handshake = time;
            *inner.deeds.counts.entry("handshakes of the engines, at least").or_default() += 1;
        }
    }

    /// All that was done.
    pub fn deeds(&self) -> Deeds {
        self.inner().deeds.clone()
    }
}

impl Deeds {
    /// What most likely cost what was sent between `after` and `before`: of what was going on then, or ended less than six
    /// seconds before, which is when a handshake is tried again, the last.
    pub fn cause(&self, after: Instant, before: Instant) -> &'static str {
        let grace = Duration::from_secs(6);
        let possible = |event: &&Event| event.start <= before && after <= event.end + grace;
        let last = self.events.iter().filter(possible).max_by_key(|event| event.start);
        last.map_or("nothing known", |event| event.name)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    struct Counter;

    impl Actor for Counter {
        fn act(&mut self, stage: &Stage) {
            stage.did("acts", 1);
        }
        fn pause(&mut self) -> Duration {
            Duration::from_millis(1)
        }
        fn rest(&mut self, stage: &Stage) {
            stage.did("rests", 1);
        }
    }

    #[test]
    fn actors_act_rest_and_end() {
        let stage = Stage::new();
        let count = |name| stage.deeds().counts.get(name).copied().unwrap_or(0);
        thread::scope(|scope| {
            scope.spawn(|| stage.play(&mut Counter));
            scope.spawn(|| stage.play(&mut Counter));
            stage.act();
            while count("acts") < 10 {
                thread::yield_now();
            }
            stage.rest(2).unwrap();
            let acts = count("acts");
            thread::sleep(Duration::from_millis(20));
            assert_eq!(count("acts"), acts);
            stage.act();
            while count("acts") == acts {
                thread::yield_now();
            }
            stage.end();
        });
        assert!(count("rests") >= 2);
    }

    #[test]
    fn the_last_disturbance_is_the_cause() {
        let stage = Stage::new();
        let before = Instant::now();
        stage.disturb("one", || ());
        stage.disturb("two", || ());
        let deeds = stage.deeds();
        let now = Instant::now();
        assert_eq!(deeds.cause(now, now), "two");
        assert_eq!(deeds.cause(now + Duration::from_secs(7), now + Duration::from_secs(8)), "nothing known");
        assert_eq!(deeds.cause(before, before), "nothing known");
    }
}
