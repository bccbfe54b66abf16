//! What threads share is made of these: the standard library's locks and atomics. With the feature `loom`, for the models
//! (`models/`), they are loom's; with `cfg(adit_threads)`, for ThreadSanitizer (`fuzz/run threads`), such as it sees into.

#[cfg(feature = "loom")]
mod modelled;
#[cfg(any(feature = "loom", adit_threads))]
mod once;
#[cfg(adit_threads)]
mod sanitized;

#[cfg(not(any(feature = "loom", adit_threads)))]
mod plain {
    pub(crate) use std::sync::{
        Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
    };
    pub(crate) use std::thread::{sleep, yield_now};

    pub(crate) use adit_net::poll::EventFd;
}

#[cfg(feature = "loom")]
pub(crate) use modelled::*;
#[cfg(not(any(feature = "loom", adit_threads)))]
pub(crate) use plain::*;
#[cfg(adit_threads)]
pub(crate) use sanitized::*;
