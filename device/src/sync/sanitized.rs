//! For ThreadSanitizer: the standard library's locks, each with an atomic that says what they do. The library comes
//! compiled without it: where a thread had to wait, ThreadSanitizer would not know what happened before.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

pub(crate) use std::sync::atomic;
pub(crate) use std::thread::{sleep, yield_now};

pub(crate) use adit_net::poll::EventFd;

pub(crate) use super::once::OnceLock;

/// What was done with a lock held happens before what is done with it held next.
#[derive(Default, Debug)]
struct Order(AtomicUsize);

impl Order {
    fn guard<G>(&self, guard: G) -> Guard<'_, G> {
        self.0.load(Ordering::Acquire);
        Guard { order: self, guard }
    }
}

/// Shows, before it lets go, that it does.
#[derive(Debug)]
pub(crate) struct Guard<'a, G> {
    order: &'a Order,
    guard: G,
}

impl<G> Drop for Guard<'_, G> {
    fn drop(&mut self) {
        self.order.0.fetch_add(1, Ordering::Release);
    }
}

impl<G: Deref> Deref for Guard<'_, G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guard<'_, G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

pub(crate) type MutexGuard<'a, T> = Guard<'a, sync::MutexGuard<'a, T>>;
pub(crate) type RwLockReadGuard<'a, T> = Guard<'a, sync::RwLockReadGuard<'a, T>>;
pub(crate) type RwLockWriteGuard<'a, T> = Guard<'a, sync::RwLockWriteGuard<'a, T>>;

#[derive(Default)]
pub(crate) struct Mutex<T> {
    order: Order,
    lock: sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex { order: Order::default(), lock: sync::Mutex::new(value) }
    }

    /// As the standard library's; never poisoned.
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(self.order.guard(self.lock.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.lock.try_lock() {
            Ok(guard) => Ok(self.order.guard(guard)),
            Err(TryLockError::Poisoned(poisoned)) => Ok(self.order.guard(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

#[derive(Default)]
pub(crate) struct RwLock<T> {
    order: Order,
    lock: sync::RwLock<T>,
}

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        Ok(self.order.guard(self.lock.read().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        Ok(self.order.guard(self.lock.write().unwrap_or_else(PoisonError::into_inner)))
    }
}
