//! The peers' deadlines: a heap, and one timer for the earliest. Its cost depends on what happens, not on how many peers
//! are idle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use adit_net::poll::TimerFd;
use adit_proto::time::Instant;

use crate::lock::Lock;
use crate::outside;
use crate::peer::Peer;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub(crate) struct Deadlines {
    timer: TimerFd,
    heap: Mutex<Heap>,
    /// The timer could not be set to the earliest deadline, or not be cleared.
    is_wrong: AtomicBool,
}

#[derive(Default)]
struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

/// Ordered by time; the count makes entries distinct.
struct Entry {
    at: Instant,
    count: u64,
    peer: Weak<Peer>,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.count).cmp(&(other.at, other.count))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl Deadlines {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Deadlines { timer: TimerFd::new()?, heap: Mutex::default(), is_wrong: AtomicBool::new(false) })
    }

    /// Notes that `peer` has something to do `at`. False if the slow path has to be woken for it, since the timer does not.
    #[must_use]
    pub(crate) fn add(&self, at: Instant, peer: &Arc<Peer>) -> bool {
        let mut heap = self.heap.locked();
        heap.count += 1;
        let entry = Entry { at, count: heap.count, peer: Arc::downgrade(peer) };
        let is_earliest = heap.entries.peek().is_none_or(|Reverse(first)| entry < *first);
        heap.entries.push(Reverse(entry));
        !is_earliest || self.arm(Some(at))
    }

    /// Whether the timer could not be set when it last had to be: until it is, somebody has to look.
    pub(crate) fn is_timer_wrong(&self) -> bool {
        self.is_wrong.load(Relaxed)
    }

    /// Takes one deadline that is reached; when there is none, the timer is set to the next.
    pub(crate) fn pop_due(&self, now: Instant) -> Option<(Instant, Arc<Peer>)> {
        let mut heap = self.heap.locked();
        while let Some(Reverse(first)) = heap.entries.peek() {
            if first.at > now {
                self.arm(Some(first.at));
                return None;
            }
            // A removed peer's entry stays until its time comes.
            if let Some(Reverse(entry)) = heap.entries.pop()
                && let Some(peer) = entry.peer.upgrade()
            {
                return Some((entry.at, peer));
            }
        }
        self.arm(None);
        None
    }

    /// The earliest deadline, and how many there are.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> (Option<Instant>, usize) {
        let heap = self.heap.locked();
        (heap.entries.peek().map(|Reverse(first)| first.at), heap.entries.len())
    }

    fn arm(&self, at: Option<Instant>) -> bool {
        let result = outside::set_timer(&self.timer, at);
        let was_wrong = self.is_wrong.swap(result.is_err(), Relaxed);
        if let Err(error) = &result
            && !was_wrong
        {
            log::error!("the timer cannot be set: {error}; it is tried again and again");
        }
        result.is_ok()
    }
}

impl AsFd for Deadlines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
