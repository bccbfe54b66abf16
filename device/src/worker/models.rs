//! Models of what workers share besides sessions: lanes, sleep, and who watches which descriptors. See `crate::models`.

use std::sync::{Arc, Mutex};

use super::crew::{Crew, FIRST};
use super::halves::lend_a_hand;
use super::lane::{Lane, Owner, Worked};
use super::rx::Incoming;
use crate::models::{explore, go, join};
use crate::state::Device;
use crate::sync::{EventFd, yield_now};

/// A job knows its place, and how often it was done.
#[derive(Default)]
struct Job {
    place: usize,
    done: usize,
}

fn compute(job: &mut Job) {
    job.done += 1;
}

/// The places of the jobs that leave now.
fn take(owner: &mut Owner<'_, Job>) -> Vec<usize> {
    let mut places = Vec::new();
    for job in owner.finished().into_iter().flatten() {
        assert_eq!(job.done, 1, "job {} was done once", job.place);
        places.push(job.place);
    }
    owner.took(places.len());
    places
}

/// More jobs than slots: what is lost, done twice or overtaken would show.
#[test]
fn jobs_leave_a_lane_once_and_in_order() {
    const JOBS: usize = 4;
    explore("a lane", || {
        let lane = Arc::new(Lane::default());
        let helpers = [2, 1].map(|tries| {
            let lane = lane.clone();
            go(move || {
                for _ in 0..tries {
                    lane.work(compute);
                }
            })
        });
        let mut owner = Owner::of(&lane);
        let (mut put, mut left) = (0, Vec::new());
        while left.len() < JOBS {
            if put < JOBS && !owner.is_full() {
                owner.put(&mut Job { place: put, done: 0 });
                put += 1;
                continue;
            }
            let taken = take(&mut owner);
            if taken.is_empty() && lane.work(compute) == Worked::Nothing {
                yield_now();
            }
            left.extend(taken);
        }
        assert_eq!(left, (0..JOBS).collect::<Vec<_>>());
        join(helpers);
    });
}

/// An owner that sleeps whenever it may is woken by whoever has its job. Else nobody could go on.
#[test]
fn the_owner_of_a_lane_is_woken() {
    explore("a lane's owner sleeps", || {
        let shared = Arc::new((Lane::default(), EventFd::new().expect("it cannot fail")));
        let helpers = [(); 2].map(|()| {
            let shared = shared.clone();
            go(move || {
                if shared.0.work(compute) == Worked::OwnerSleeps {
                    shared.1.wake();
                }
            })
        });
        let (lane, waker) = &*shared;
        let mut owner = Owner::of(lane);
        (0..2).for_each(|place| owner.put(&mut Job { place, done: 0 }));
        let mut left = Vec::new();
        while left.len() < 2 {
            left.extend(take(&mut owner));
            if owner.is_empty() {
                break;
            }
            if owner.sleep() {
                waker.wait();
                waker.clear();
            } else {
                lane.work(compute);
            }
        }
        assert_eq!(left, [0, 1]);
        join(helpers);
    });
}

/// A worker calls another, which sleeps, and puts a job into its lane, as senders and receivers do. Whatever becomes of
/// the call, the job is done; and the other goes to sleep again, and ends when it is told.
#[test]
fn a_call_for_help_holds_up_nobody() {
    explore("a call for help", || {
        let device = Arc::new(Device::new(2.try_into().expect("not zero"), None).expect("descriptors"));
        let helper = {
            let device = device.clone();
            go(move || {
                let waker = &device.crew.member(1).waker;
                lend_a_hand(&device, 1, || {
                    waker.wait();
                    Ok(())
                })
                .expect("waiting cannot fail");
            })
        };
        let (crew, me) = (&device.crew, device.crew.member(0));
        let mut owner = Owner::of(&me.rx);
        let is_shared = crew.call(64, 64 << 10);
        owner.put(&mut Incoming::default());
        let mut count = 0;
        // What a worker does between its events.
        while !owner.is_empty() {
            if owner.needs_its_owner() || !is_shared {
                super::rx::work(&device, &me.rx);
            }
            owner.end_round();
            let finished = owner.finished().into_iter().flatten().count();
            owner.took(finished);
            count += finished;
            if !owner.is_empty() && owner.sleep() {
                crew.sleeps(0);
                me.waker.wait();
                crew.awakes(0);
                me.waker.clear();
            }
        }
        assert_eq!(count, 1);
        device.end();
        join([helper]);
    });
}

/// Who watches whose descriptors, by the number of the one whose they are. The standard library's lock: it is not part
/// of the model.
type Watched = Arc<Mutex<[Option<usize>; 2]>>;

/// Worker `number` watches the descriptors of `wanted`, a bit each, and no others.
fn watch(watched: &Watched, number: usize, wanted: u64) {
    let mut watched = watched.lock().expect("nothing panics with it");
    for (owner, watcher) in watched.iter_mut().enumerate() {
        let is_wanted = wanted & 1 << owner != 0;
        match *watcher {
            Some(other) if other != number => assert!(!is_wanted, "two watch what is worker {owner}'s"),
            _ => *watcher = is_wanted.then_some(number),
        }
    }
}

/// What [`Worker::follow`](super::Worker::follow) does of it.
fn follow(crew: &Crew, watched: &Watched, number: usize) {
    crew.member(number).waker.clear();
    watch(watched, number, crew.watch_of(number));
}

/// A rush has the first worker give descriptors back, whose worker finds it calm, in every order: never do two watch the same,
/// and once all who were woken have looked, each is watched.
#[test]
fn descriptors_are_watched_by_one_worker() {
    explore("descriptors change hands", || {
        let crew = Arc::new(Crew::new(2.try_into().expect("not zero")).expect("descriptors"));
        let watched: Watched = Arc::default();
        follow(&crew, &watched, FIRST);
        follow(&crew, &watched, 1);
        assert_eq!(*watched.lock().unwrap(), [Some(FIRST); 2]);

        let first = {
            let (crew, watched) = (crew.clone(), watched.clone());
            go(move || {
                for _ in 0..2 {
                    // See `Worker::turned`: a rush.
                    watch(&watched, FIRST, 1 << FIRST);
                    crew.relieve_nobody();
                    follow(&crew, &watched, FIRST);
                }
            })
        };
        let other = {
            let (crew, watched) = (crew.clone(), watched.clone());
            go(move || {
                crew.member(1).waker.wait();
                follow(&crew, &watched, 1);
                // Calm again.
                watch(&watched, 1, 0);
                crew.relieve(1);
                follow(&crew, &watched, 1);
            })
        };
        join([first, other]);
        for number in [FIRST, 1] {
            if crew.member(number).waker.is_awake() {
                follow(&crew, &watched, number);
            }
        }
        assert!(watched.lock().unwrap().iter().all(Option::is_some), "nobody watches: {watched:?}");
    });
}
