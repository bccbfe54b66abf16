//! What the tests of the AEAD share: one test a backend, trains, and the reference, which is RustCrypto's
//! ChaCha20-Poly1305, one packet at a time.

// Every test file is a crate of its own and uses a part.
#![allow(dead_code, unused_macros)]

use adit_crypto::{Backend, TAG_LEN, aead};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};

/// Makes of each function `fn name(backend: Backend)` a test for every backend there is, `aws_lc::name`, `avx2::name` and
/// `avx512::name`. A backend that this processor cannot run is skipped, loudly.
macro_rules! for_each_backend {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        $crate::support::for_each_backend!(aws_lc AwsLc: $($(#[$attribute])* $name),*);
        $crate::support::for_each_backend!(avx2 Avx2: $($(#[$attribute])* $name),*);
        $crate::support::for_each_backend!(avx512 Avx512: $($(#[$attribute])* $name),*);
    };
    ($module:ident $backend:ident: $($(#[$attribute:meta])* $name:ident),*) => {
        mod $module {
            use adit_crypto::Backend::$backend;
            $(
                #[test]
                $(#[$attribute])*
                fn $name() {
                    if crate::support::is_available($backend) {
                        super::$name($backend);
                    }
                }
            )*
        }
    };
}
pub(crate) use for_each_backend;

/// Whether the backend runs here; if not, the running test is recorded as skipped, as `lab` does it.
pub fn is_available(backend: Backend) -> bool {
    use std::io::Write;

    if Backend::available().any(|available| available == backend) {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let skipped = format!("{test}: this processor cannot run the {backend} backend\n");
    eprint!("skipped: {skipped}");
    if let Some(path) = std::env::var_os("LAB_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(skipped.as_bytes()).unwrap();
    }
    false
}

/// The key of every test that needs no particular one.
pub const KEY: [u8; 32] = [
    0x80, 0xfe, 0x01, 0x7f, 0x33, 0xcc, 0x5a, 0xa5, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, //
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xde, 0xad, 0xbe, 0xef, 0x0f, 0xf0, 0x3c, 0xc3,
];

/// First counters where something could go wrong: a carry into the upper half within the first packets, in
/// the middle of a group and at its end; the largest counters there are.
pub const FIRST_COUNTERS: [u64; 8] = [
    0,
    (1 << 32) - 1,
    (1 << 32) - 9,
    (1 << 32) - 16,
    (1 << 32) - 40,
    1 << 63,
    u64::MAX - 63,
    0x0102_0304_0506_0708,
];

/// Bytes that differ from packet to packet and from block to block.
pub fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 167 + (i >> 6) * 59 + (i >> 8) + seed * 31) as u8).collect()
}

/// Packets back to back: `packets` of `header` bytes, `len` bytes of text and a tag, and then perhaps a last
/// one with `last` bytes of text.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub header: usize,
    pub len: usize,
    pub packets: usize,
    pub last: Option<usize>,
}

impl Shape {
    pub fn new(header: usize, len: usize, packets: usize) -> Self {
        Self { header, len, packets, last: None }
    }

    pub fn stride(&self) -> usize {
        self.header + self.len + TAG_LEN
    }

    pub fn bytes(&self) -> usize {
        self.packets * self.stride() + self.last.map_or(0, |last| self.header + last + TAG_LEN)
    }

    pub fn all_packets(&self) -> usize {
        self.packets + usize::from(self.last.is_some())
    }

    /// Where packet `i` has its text.
    pub fn text(&self, i: usize) -> std::ops::Range<usize> {
        let start = i * self.stride() + self.header;
        start..start + if i == self.packets { self.last.unwrap() } else { self.len }
    }

    /// Where packet `i` has its text and tag.
    pub fn sealed(&self, i: usize) -> std::ops::Range<usize> {
        self.text(i).start..self.text(i).end + TAG_LEN
    }

    pub fn seal(&self, key: &aead::Key, first_counter: u64, train: &mut [u8]) {
        aead::seal_train(key, first_counter, train, self.stride(), self.header);
    }

    /// Opens `train` and returns the verdicts. Before, they are `true` and `false` in turn, so that one which
    /// is not written shows where a packet opens or where it does not.
    pub fn open(&self, key: &aead::Key, counters: &[u64], train: &mut [u8]) -> Vec<bool> {
        let mut opened: Vec<bool> = (0..counters.len()).map(|i| i % 2 == 0).collect();
        aead::open_train(key, counters, train, self.stride(), self.header, &mut opened);
        opened
    }

    /// What the reference makes of `plain`, packet `i` with `counters[i]`.
    pub fn reference_seal(&self, key: &[u8; 32], counters: &[u64], plain: &[u8]) -> Vec<u8> {
        let reference = Reference::new(key);
        let mut train = plain.to_vec();
        for (i, &counter) in counters.iter().enumerate() {
            reference.seal(counter, &[], &mut train[self.sealed(i)]);
        }
        train
    }
}

/// `packets` counters in a row.
pub fn counters(first: u64, packets: usize) -> Vec<u64> {
    (0..packets as u64).map(|i| first + i).collect()
}

/// RustCrypto's.
pub struct Reference(ChaCha20Poly1305);

impl Reference {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    pub fn seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]) {
        let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().unwrap();
        *tag = self.0.encrypt_inout_detached(&nonce(counter).into(), aad, text.into()).unwrap().into();
    }
}

pub fn nonce(counter: u64) -> [u8; 12] {
    (u128::from(counter) << 32).to_le_bytes()[..12].try_into().unwrap()
}

/// A buffer somewhere in a larger one, `offset` bytes behind a multiple of 64. What is around it is checked.
pub struct Guarded {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Guarded {
    const GUARD: usize = 128;

    pub fn new(content: &[u8], offset: usize) -> Self {
        let memory = vec![0; content.len() + 3 * Self::GUARD];
        let start = Self::GUARD + (offset as isize - memory.as_ptr().addr() as isize).rem_euclid(64) as usize;
        let mut guarded = Self { memory, start, len: content.len() };
        guarded.memory[..start].iter_mut().enumerate().for_each(|(i, byte)| *byte = guard_byte(i));
        let behind = start + content.len();
        guarded.memory[behind..].iter_mut().zip(behind..).for_each(|(byte, i)| *byte = guard_byte(i));
        guarded.content().copy_from_slice(content);
        guarded
    }

    pub fn content(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }

    /// The content, if nothing around it has changed.
    pub fn intact(&self) -> &[u8] {
        let (before, rest) = self.memory.split_at(self.start);
        let (content, after) = rest.split_at(self.len);
        let behind = self.start + self.len;
        assert!(before.iter().enumerate().all(|(i, &byte)| byte == guard_byte(i)), "wrote before the buffer");
        assert!(
            after.iter().zip(behind..).all(|(&byte, i)| byte == guard_byte(i)),
            "wrote behind the buffer"
        );
        content
    }
}

fn guard_byte(i: usize) -> u8 {
    (i * 151 + 77) as u8
}
