//! What is left of secrets in memory that was freed: nothing, also of those that waited in a list.
#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use adit_crypto::x25519::{self, PrivateKey};
use adit_proto::dh::{Step, ready_all};

/// Looks for what it was told to in every block that is freed.
struct Searching;

static SOUGHT: Mutex<[[u8; 32]; 8]> = Mutex::new([[0; 32]; 8]);
static IS_SEARCHING: AtomicBool = AtomicBool::new(false);
static FOUND: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all memory is the system allocator's, which gets it back as it was handed out.
unsafe impl GlobalAlloc for Searching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on. Zeroed, so that all of a block may be read when it is freed.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if IS_SEARCHING.load(SeqCst)
            && let Ok(sought) = SOUGHT.try_lock()
        {
            // SAFETY: the block is of that size, initialized, and its owner's no more.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            let found = sought.iter().filter(|secret| bytes.windows(32).any(|window| window == *secret));
            FOUND.fetch_add(found.count(), SeqCst);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Searching = Searching;

/// A step with a public key of the other side.
struct One {
    remote: [u8; 32],
    local: PrivateKey,
}

impl Step<1> for One {
    fn pairs(&self) -> [(&PrivateKey, &[u8; 32]); 1] {
        [(&self.local, &self.remote)]
    }
}

/// How many of `sought` are found in what is freed during `work`.
fn found_during(sought: [[u8; 32]; 8], work: impl FnOnce()) -> usize {
    *SOUGHT.lock().expect("one test at a time") = sought;
    FOUND.store(0, SeqCst);
    IS_SEARCHING.store(true, SeqCst);
    work();
    IS_SEARCHING.store(false, SeqCst);
    FOUND.load(SeqCst)
}

#[test]
fn shared_secrets_that_waited_are_wiped() {
    let local = |i: u8| PrivateKey::new([0x40 + i; 32]);
    let remote = x25519::public_key(&PrivateKey::new([0x77; 32]));
    let shared: [[u8; 32]; 8] = std::array::from_fn(|i| {
        *x25519::shared(&local(i as u8), &remote).expect("a point of high order").expose()
    });
    let steps: Vec<One> = (0..8).map(|i| One { remote, local: local(i) }).collect();
    let found = found_during(shared, || assert_eq!(ready_all(steps).map(drop).count(), 8));
    assert_eq!(found, 0);
    // The search does find: what is not wiped.
    assert_eq!(found_during(shared, || drop(shared.to_vec())), 8);
}
