//! Seals and opens, and multiplies points, with keys and plaintexts that MemorySanitizer takes for undefined. It reports, and ends the
//! program at, the first branch that depends on them, and the first address.
//!
//! What is checked is what the Rust compiler has instrumented: the own backends, in every shape. AWS-LC is not.
//! Before that, programs that do leak have to be reported.

use std::ffi::{c_char, c_void};
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::{env, slice, thread};

use adit_crypto::x25519::{self, PrivateKey};
use adit_crypto::{Backend, Secret, TAG_LEN, aead, ct};

const HEADER: usize = 16;
/// Of a process that MemorySanitizer ends.
const REPORTED: i32 = 77;

fn main() -> ExitCode {
    if let Some(leak) = env::args().nth(1) {
        LEAKS.iter().find(|(name, _)| *name == leak).expect("the name of a leak").1();
        return ExitCode::SUCCESS;
    }
    for (leak, _) in LEAKS {
        let program = env::current_exe().expect("a program has a path");
        let output = Command::new(program).arg(leak).output().expect("this program can be started");
        if output.status.code() != Some(REPORTED) {
            println!("{leak}: not reported, so this check finds nothing");
            return ExitCode::FAILURE;
        }
        println!("{leak}: reported, as it should be");
    }
    // What was undefined stays so on the stack, where code that is not instrumented may find it when it prints.
    thread::spawn(comparisons).join().expect("nothing panics");
    for backend in [Backend::Avx2, Backend::Avx512] {
        if Backend::available().any(|available| available == backend) {
            let trains = thread::spawn(move || trains(backend)).join().expect("nothing panics");
            println!("{backend}: {trains} trains, and nothing to report");
        } else {
            println!("skipped: this processor cannot run the {backend} backend");
        }
    }
    if Backend::available().any(|available| available == Backend::Avx512) {
        let batches = thread::spawn(batches).join().expect("nothing panics");
        println!("{}: {batches} batches of X25519, and nothing to report", Backend::Avx512);
    }
    ExitCode::SUCCESS
}

/// What has to be reported.
const LEAKS: [(&str, fn()); 3] = [
    ("a branch", || {
        let secret = secret([7; 16]);
        if black_box(secret)[3] == 1 {
            black_box(());
        }
    }),
    ("an address", || {
        let secret = secret([7; 16]);
        black_box(black_box([1; 256])[usize::from(black_box(secret)[3])]);
    }),
    ("a comparison that ends early", || {
        let (these, those) = (secret([7; 16]), [8; 16]);
        black_box(black_box(these).iter().zip(&black_box(those)).position(|(a, b)| a != b));
    }),
];

/// In constant time; the verdict stays secret until it is declared not to be.
fn comparisons() {
    let equal = ct::eq(&secret([7; 32]), &secret([7; 32]));
    assert!(is_secret(slice::from_ref(&equal)), "a comparison of secrets is secret");
    assert!(public(equal));
}

/// Trains of every shape, authentic and not; their number.
fn trains(backend: Backend) -> usize {
    let key = aead::Key::with_backend(&secret([0x42; 32]), backend);
    let mut trains = 0;
    for packets in (1..=20).chain([31, 32, 33, 45, 48, 64]) {
        for text_len in
            [0, 1, 15, 16, 17, 48, 63, 64, 65, 100, 128, 191, 192, 193, 256, 300, 959, 1024, 1420, 5000]
        {
            for last in [text_len, text_len / 2] {
                let stride = HEADER + text_len + TAG_LEN;
                let mut train = vec![0x55; (packets - 1) * stride + HEADER + last + TAG_LEN];
                train.chunks_mut(stride).for_each(|packet| make_secret(&mut packet[HEADER..]));
                aead::seal_train(&key, 1, &mut train, stride, HEADER);
                let own = is_own(backend, packets, text_len, last);
                if own {
                    train.chunks(stride).for_each(|packet| assert!(is_secret(&packet[HEADER..])));
                }
                // From here on on the wire.
                make_public(&mut train);
                let forged = packets / 2;
                train[forged * stride + HEADER] ^= 1;
                open(&key, &mut train, stride, forged, own);
                // The memory will be used again.
                make_public(&mut train);
                trains += 1;
            }
        }
    }
    trains
}

/// Whether all packets of a train are the own code's, so that what becomes of them must depend on the secrets.
fn is_own(backend: Backend, packets: usize, text_len: usize, last: usize) -> bool {
    match backend {
        Backend::AwsLc => false,
        Backend::Avx2 => packets.is_multiple_of(8) && (1..=256).contains(&text_len) && last == text_len,
        Backend::Avx512 => text_len >= 1420,
    }
}

fn open(key: &aead::Key, train: &mut [u8], stride: usize, forged: usize, own: bool) {
    let counters: Vec<u64> = (1..).take(train.len().div_ceil(stride)).collect();
    let mut opened = vec![false; counters.len()];
    aead::open_train(key, &counters, train, stride, HEADER, &mut opened);
    for (i, (packet, opened)) in train.chunks(stride).zip(opened).enumerate() {
        assert_eq!(opened, i != forged, "packet {i}");
        // What was opened depends on the key; what was wiped depends on nothing.
        let text = &packet[HEADER..packet.len() - TAG_LEN];
        if i == forged || own {
            assert_eq!(is_secret(text), i != forged, "packet {i} of {} bytes", text.len());
        }
    }
}

/// Batches of X25519 with secret scalars, and points that are none and of low order among them; their number.
fn batches() -> usize {
    let keys: Vec<_> = (0..16).map(|i| PrivateKey::new([0x5a ^ i; 32])).collect();
    // Only now: setting a key up is the library's, and not instrumented.
    for key in &keys {
        // SAFETY: changes only what is noted about these bytes.
        unsafe { __msan_poison(key.expose().as_ptr().cast(), key.expose().len()) };
    }
    let keys = black_box(keys);
    // One is of low order, one is p or more.
    let points: [[u8; 32]; 5] = [9, 0, 0x33, 0xff, 0x7f].map(|byte| [byte; 32]);
    // From three on they are not the library's.
    let batches = (3..=8).chain([16]);
    for size in batches.clone() {
        let pairs: Vec<_> = keys.iter().zip(points.iter().cycle()).take(size).collect();
        let mut results = vec![Ok(Secret::zero()); size];
        x25519::shared_batch_with(&pairs, &mut results, Backend::Avx512);
        for (result, (_, point)) in results.iter().zip(pairs) {
            assert_eq!(result.is_err(), *point == [0; 32]);
            assert!(result.as_ref().is_ok_and(|shared| is_secret(shared.expose())) || result.is_err());
        }
    }
    // The memory will be used again.
    for key in &keys {
        // SAFETY: changes only what is noted about these bytes.
        unsafe { __msan_unpoison(key.expose().as_ptr().cast(), key.expose().len()) };
    }
    batches.count()
}

unsafe extern "C" {
    fn __msan_poison(address: *const c_void, size: usize);
    fn __msan_unpoison(address: *const c_void, size: usize);
    /// The index of the first undefined byte, or -1.
    fn __msan_test_shadow(address: *const c_void, size: usize) -> isize;
}

/// Nothing but secrets counts as undefined: the standard library is not instrumented, so what it initializes
/// seems not to be. For the same reason the stack is exempted when this is compiled.
#[unsafe(no_mangle)]
extern "C" fn __msan_default_options() -> *const c_char {
    c"poison_in_malloc=0:poison_in_free=0:exitcode=77".as_ptr()
}

fn secret<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    make_secret(&mut bytes);
    bytes
}

fn public(mut verdict: bool) -> bool {
    // SAFETY: changes only what is noted about this one byte.
    unsafe { __msan_unpoison((&raw mut verdict).cast(), 1) };
    verdict
}

fn make_secret(bytes: &mut [u8]) {
    // SAFETY: changes only what is noted about these bytes.
    unsafe { __msan_poison(bytes.as_mut_ptr().cast(), bytes.len()) };
}

fn make_public(bytes: &mut [u8]) {
    // SAFETY: changes only what is noted about these bytes.
    unsafe { __msan_unpoison(bytes.as_mut_ptr().cast(), bytes.len()) };
}

fn is_secret<T>(values: &[T]) -> bool {
    // SAFETY: reads only what is noted about these bytes.
    unsafe { __msan_test_shadow(values.as_ptr().cast(), size_of_val(values)) >= 0 }
}
