//! For models: loom's, which tries the orders in which threads may take them, and what is stood in for there.

pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
pub(crate) use loom::thread::yield_now;

pub(crate) use super::once::OnceLock;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use loom::sync::Condvar;

use crate::lock::Lock;

/// Others go on meanwhile: time is not part of a model.
pub(crate) fn sleep(_: Duration) {
    yield_now();
}

/// What wakes a thread that waits for events. loom knows no descriptors.
#[derive(Debug)]
pub(crate) struct EventFd {
    is_awake: Mutex<bool>,
    changed: Condvar,
}

impl EventFd {
    /// As the real one, which may fail.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(EventFd { is_awake: Mutex::new(false), changed: Condvar::new() })
    }

    pub(crate) fn wake(&self) {
        *self.is_awake.locked() = true;
        self.changed.notify_all();
    }

    pub(crate) fn clear(&self) {
        *self.is_awake.locked() = false;
    }

    /// Whether a poller would return at once.
    #[cfg(test)]
    pub(crate) fn is_awake(&self) -> bool {
        *self.is_awake.locked()
    }

    /// What waiting with a poller is to the real one: returns once somebody has woken it since it was cleared.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let mut is_awake = self.is_awake.locked();
        while !*is_awake {
            is_awake = self.changed.wait(is_awake).expect("loom's locks are not poisoned");
        }
    }
}

/// A place in a poller, which no model has.
impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("models wait by `wait`")
    }
}
