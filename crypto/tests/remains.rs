//! What is left of a key when it is dropped: all memory of this process is searched for it, but for the stack,
//! where a compiler spills and moves as it likes.

mod support;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use adit_crypto::x25519::{self, PrivateKey};
use adit_crypto::{Backend, Secret, TAG_LEN, aead};
use support::{Shape, bytes, counters, for_each_backend};

for_each_backend!(a_key_is_gone_when_it_is_dropped, a_private_key_is_gone_when_it_is_dropped);

/// A search has copies of what it searches: the key of a test that runs at the same time, too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn a_key_is_gone_when_it_is_dropped(backend: Backend) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let needle = Needle::random();
    let mut slot = needle.with(|key| Box::new(Some(aead::Key::with_backend(key, backend))));
    assert!(needle.is_in_memory(), "a search has to find the key while it is there");
    use_key(slot.as_ref().as_ref().unwrap());
    // Dropped where it is, so that neither a move nor the allocator overwrites what it would leave.
    *slot = None;
    assert!(!needle.is_in_memory());
    black_box(slot);
}

fn a_private_key_is_gone_when_it_is_dropped(backend: Backend) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let needle = Needle::clamped();
    let mut slot = needle.with(|key| Box::new(Some(PrivateKey::new(*key))));
    assert!(needle.is_in_memory(), "a search has to find the key while it is there");
    for batch in [1, 2, 3, 8, 9, 20] {
        let pairs = vec![(slot.as_ref().as_ref().unwrap(), &[9; 32]); batch];
        let mut results = vec![Ok(Secret::zero()); batch];
        x25519::shared_batch_with(&pairs, &mut results, backend);
        assert!(results.iter().all(Result::is_ok));
    }
    *slot = None;
    assert!(!needle.is_in_memory());
    black_box(slot);
}

/// Through every shape, successful and not.
fn use_key(key: &aead::Key) {
    for packets in [1, 2, 4, 7, 8, 16, 17, 33, 45] {
        for len in [0, 1, 64, 200, 1420, 5000] {
            let shape = Shape { last: Some(len / 3), ..Shape::new(16, len, packets) };
            let mut train = bytes(shape.bytes(), len);
            shape.seal(key, 0, &mut train);
            train[shape.sealed(packets / 2).start] ^= 1;
            let opened = shape.open(key, &counters(0, packets + 1), &mut train);
            assert_eq!(opened.iter().filter(|&&opened| opened).count(), packets);
        }
    }
    let mut lone = [0; 64 + TAG_LEN];
    aead::seal(key, 1, &[7; 32], &mut lone);
    assert!(aead::open(key, 1, &[7; 32], &mut lone).is_ok());
}

/// A random key, which this type itself keeps as its complement only.
struct Needle {
    complement: [u8; 32],
}

impl Needle {
    fn random() -> Self {
        let mut complement = [0; 32];
        File::open("/dev/urandom").unwrap().read_exact(&mut complement).unwrap();
        Self { complement }
    }

    /// One that is a private key as it is.
    fn clamped() -> Self {
        let mut needle = Self::random();
        needle.complement[0] |= 0b0000_0111;
        needle.complement[31] = needle.complement[31] & 0b0011_1111 | 0b1000_0000;
        needle
    }

    /// Calls `f` with the key, which exists only meanwhile.
    fn with<T>(&self, f: impl FnOnce(&[u8; 32]) -> T) -> T {
        f(&self.complement.map(|byte| !byte))
    }

    /// Whether either half is anywhere but on this thread's stack.
    fn is_in_memory(&self) -> bool {
        let mut window = vec![0; 1 << 16];
        let here = (&raw const window).addr();
        let copies = window.as_ptr().addr()..window.as_ptr().addr() + window.len();
        let memory = File::open("/proc/self/mem").unwrap();
        writable_mappings().into_iter().filter(|mapping| !mapping.contains(&here)).any(|mapping| {
            // Windows overlap, so that nothing lies between two.
            mapping.clone().step_by(window.len() / 2).any(|at| {
                let len = window.len().min(mapping.end - at);
                // Another test's thread may have ended, and its memory gone, since the list was read.
                let Ok(len) = memory.read_at(&mut window[..len], at as u64) else { return false };
                let found = window[..len].windows(16).enumerate().any(|(i, bytes)| {
                    !copies.contains(&(at + i)) && !copies.contains(&(at + i + 15)) && self.has_half(bytes)
                });
                // The window itself is on the heap, and should not be found in what malloc gives out next.
                window.fill(0);
                found
            })
        })
    }

    fn has_half(&self, bytes: &[u8]) -> bool {
        self.complement.chunks(16).any(|half| half.iter().zip(bytes).all(|(a, b)| *a == !b))
    }
}

fn writable_mappings() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let writable = maps.lines().filter(|line| line.contains(" rw"));
    let mappings = writable.map(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap()
    });
    mappings.collect()
}
