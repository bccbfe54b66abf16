//! A lane: trains on their way through the cryptography, in the order in which they came.
//!
//! Its owner, a worker, puts trains in at one end and takes them out at the other. In between whoever has time seals or
//! opens them, the owner or a worker that idles: so one busy peer is served by several processors, and yet nothing
//! overtakes.
//!
//! ```text
//!   put ─▶ │ waiting │ waiting │ claimed │ done │ claimed │ done │ ─▶ take
//!           filled              claimed                        taken
//! ```
//!
//! The three positions only count up; a job's slot is its position modulo the number of slots. A job is claimed once,
//! by one thread, which alone has it until it is done; then it is the owner's again. So nobody ever waits for a slot's
//! lock: it is there to prove that to the compiler.

use crate::lock::Lock;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use crate::sync::{Mutex, MutexGuard};

/// Trains in a lane at most. So few in models that a slot is used again soon.
pub(crate) const SLOTS: usize = if cfg!(feature = "loom") { 2 } else { 8 };

/// The lane as all workers see it.
#[derive(Default)]
pub(crate) struct Lane<J> {
    slots: [Slot<J>; SLOTS],
    /// Jobs that were put in so far.
    filled: AtomicUsize,
    /// Jobs that somebody has taken up so far.
    claimed: AtomicUsize,
    /// The owner sleeps and is to be woken by whoever finishes a job.
    owner_sleeps: AtomicBool,
}

#[derive(Default)]
struct Slot<J> {
    job: Mutex<J>,
    is_done: AtomicBool,
}

/// What became of an offer to work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Worked {
    /// Nothing waited.
    Nothing,
    /// A job was done.
    Done,
    /// A job was done and its owner is asleep: wake it.
    OwnerSleeps,
}

impl<J> Lane<J> {
    /// How many jobs nobody has taken up.
    pub(crate) fn waiting(&self) -> usize {
        // In this order: claims overtake what is put in never, but may come in between.
        let claimed = self.claimed.load(SeqCst);
        self.filled.load(SeqCst).saturating_sub(claimed)
    }

    /// Does the oldest job that waits, if there is one.
    pub(crate) fn work(&self, work: impl FnOnce(&mut J)) -> Worked {
        let Some(position) = self.claim() else { return Worked::Nothing };
        let slot = &self.slots[position % SLOTS];
        work(&mut slot.job.locked());
        slot.is_done.store(true, SeqCst);
        // With the owner's order reversed (see `Owner::sleep`), one of the two sees the other: both exchange, so the later
        // one knows what the earlier one had done before.
        match self.owner_sleeps.swap(false, SeqCst) {
            true => Worked::OwnerSleeps,
            false => Worked::Done,
        }
    }

    fn claim(&self) -> Option<usize> {
        let filled = self.filled.load(SeqCst);
        self.claimed.fetch_update(SeqCst, SeqCst, |next| (next < filled).then_some(next + 1)).ok()
    }
}

/// The owner's end of a lane. There must be one.
pub(crate) struct Owner<'a, J> {
    lane: &'a Lane<J>,
    /// Jobs that were put in, and that were taken out, so far.
    filled: usize,
    taken: usize,
    taken_by_last_round: usize,
}

impl<'a, J> Owner<'a, J> {
    /// The owner's end of a new lane.
    pub(crate) fn of(lane: &'a Lane<J>) -> Self {
        Owner { lane, filled: 0, taken: 0, taken_by_last_round: 0 }
    }

    pub(crate) fn lane(&self) -> &'a Lane<J> {
        self.lane
    }

    /// Whether there is nothing in the lane, neither to do nor to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.filled
    }

    /// Whether nothing can be put in before something is taken out.
    pub(crate) fn is_full(&self) -> bool {
        self.filled - self.taken == SLOTS
    }

    /// Puts a job in by exchanging it for one that was taken out before, whose buffers are free to use.
    ///
    /// # Panics
    /// When the lane is full.
    pub(crate) fn put(&mut self, job: &mut J) {
        assert!(!self.is_full(), "a lane has room before something is put in");
        let slot = &self.lane.slots[self.filled % SLOTS];
        std::mem::swap(&mut *slot.job.locked(), job);
        slot.is_done.store(false, SeqCst);
        self.filled += 1;
        self.lane.filled.store(self.filled, SeqCst);
    }

    /// The finished jobs that are next to leave, in order; `None`s after them. [`took`](Self::took) takes them out.
    pub(crate) fn finished(&self) -> [Option<MutexGuard<'a, J>>; SLOTS] {
        let mut is_next = true;
        std::array::from_fn(|i| {
            let position = self.taken + i;
            let slot = &self.lane.slots[position % SLOTS];
            is_next = is_next && position < self.filled && slot.is_done.load(SeqCst);
            is_next.then(|| slot.job.locked())
        })
    }

    /// Takes out the first `count` of the finished jobs.
    pub(crate) fn took(&mut self, count: usize) {
        debug_assert!(self.taken + count <= self.filled);
        self.taken += count;
    }

    /// Whether the owner should do a job itself rather than leave all to helpers: nothing has left since its last round, or
    /// more waits than one helper would take up next.
    pub(crate) fn needs_its_owner(&self) -> bool {
        let is_stuck = self.taken == self.taken_by_last_round;
        !self.is_empty() && (is_stuck || self.lane.waiting() > 1)
    }

    /// Ends one of the owner's rounds.
    pub(crate) fn end_round(&mut self) {
        self.taken_by_last_round = self.taken;
    }

    /// To be called before sleeping. True when there is nothing to do, or the next job is in another's hands, who will then
    /// wake the owner; false when there is no reason to sleep.
    pub(crate) fn sleep(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        self.lane.owner_sleeps.swap(true, SeqCst);
        let is_next_done = self.lane.slots[self.taken % SLOTS].is_done.load(SeqCst);
        if is_next_done || self.lane.waiting() > 0 {
            self.lane.owner_sleeps.store(false, SeqCst);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::thread;
    use std::time::Duration;

    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    /// A job knows its place, and what was made of it.
    #[derive(Default)]
    struct Job {
        place: usize,
        result: Option<usize>,
    }

    fn compute(job: &mut Job) {
        assert_eq!(job.result, None, "done once");
        job.result = Some(job.place * 3);
    }

    fn put(owner: &mut Owner<'_, Job>, place: usize) {
        owner.put(&mut Job { place, result: None });
    }

    /// The places of the jobs that leave now.
    fn take(owner: &mut Owner<'_, Job>) -> Vec<usize> {
        let mut places = Vec::new();
        for mut job in owner.finished().into_iter().flatten() {
            assert_eq!(job.result.take(), Some(job.place * 3));
            places.push(job.place);
        }
        owner.took(places.len());
        places
    }

    #[test]
    fn only_what_is_done_leaves_and_only_in_order() {
        let lane = Lane::default();
        let mut owner = Owner::of(&lane);
        (0..4).for_each(|place| put(&mut owner, place));
        assert_eq!((lane.waiting(), take(&mut owner)), (4, vec![]));

        // Somebody has claimed the first, and is slow; the second is done meanwhile.
        let first = lane.claim().unwrap();
        assert_eq!(lane.work(compute), Worked::Done);
        assert_eq!((lane.waiting(), take(&mut owner)), (2, vec![]));

        compute(&mut lane.slots[first].job.locked());
        lane.slots[first].is_done.store(true, SeqCst);
        assert_eq!(take(&mut owner), [0, 1]);
        assert!(take(&mut owner).is_empty());
        while lane.work(compute) != Worked::Nothing {}
        assert_eq!(take(&mut owner), [2, 3]);
        assert!(owner.is_empty());
    }

    #[test]
    fn the_owner_sleeps_only_when_somebody_will_wake_it() {
        let lane = Lane::default();
        let mut owner = Owner::of(&lane);
        put(&mut owner, 0);
        assert!(!owner.sleep(), "it could do the job itself");
        assert_eq!(lane.work(compute), Worked::Done);
        assert!(!owner.sleep(), "it could take the job out");
        take(&mut owner);

        put(&mut owner, 1);
        lane.work(|job| {
            assert!(owner.sleep(), "somebody has the job");
            compute(job);
        });
        put(&mut owner, 2);
        assert_eq!(lane.work(compute), Worked::Done, "it was woken already");
    }

    #[test]
    fn whoever_finishes_a_job_is_told_that_its_owner_sleeps() {
        let lane = Lane::default();
        let mut owner = Owner::of(&lane);
        put(&mut owner, 0);
        let worked = lane.work(|job| {
            assert!(owner.sleep());
            compute(job);
        });
        assert_eq!(worked, Worked::OwnerSleeps);
    }

    /// Helpers that are slow at random, each in its own way, and an owner that works as well.
    #[test]
    fn nothing_overtakes_however_long_a_job_takes() {
        const JOBS: usize = 2000;
        let (lane, is_over) = (Lane::default(), AtomicBool::new(false));
        let dawdle = |rng: &mut ChaCha8Rng| match rng.next_u32() % 8 {
            0 => thread::sleep(Duration::from_micros(u64::from(rng.next_u32() % 500))),
            1..4 => thread::yield_now(),
            _ => {}
        };
        let mut helped = 0;
        thread::scope(|scope| {
            let helpers: Vec<_> = (0..4)
                .map(|seed| {
                    let (lane, is_over) = (&lane, &is_over);
                    scope.spawn(move || {
                        let (mut rng, mut done) = (ChaCha8Rng::seed_from_u64(seed), 0);
                        while !is_over.load(Relaxed) {
                            let worked = lane.work(|job| {
                                dawdle(&mut rng);
                                compute(job);
                            });
                            done += usize::from(worked != Worked::Nothing);
                            thread::yield_now();
                        }
                        done
                    })
                })
                .collect();
            let (mut owner, mut rng) = (Owner::of(&lane), ChaCha8Rng::seed_from_u64(99));
            let (mut next, mut left) = (0, Vec::new());
            while left.len() < JOBS {
                if next < JOBS && !owner.is_full() {
                    put(&mut owner, next);
                    next += 1;
                } else if left.len() % 3 == 0 {
                    lane.work(compute);
                }
                dawdle(&mut rng);
                left.extend(take(&mut owner));
            }
            is_over.store(true, Relaxed);
            helped = helpers.into_iter().map(|helper| helper.join().unwrap()).sum();
            assert_eq!(left, (0..JOBS).collect::<Vec<_>>());
        });
        assert!(helped > 0, "the owner did all jobs itself");
    }
}
