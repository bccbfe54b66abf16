//! ChaCha20-Poly1305 for trains, on x86-64 with AVX-512 and IFMA.

mod chacha20;
mod lone;
#[expect(unsafe_code, reason = "loads and stores")]
mod memory;
mod poly1305;
mod train;

use zeroize::Zeroizing;

use crate::{KEY_LEN, Rejected, TAG_LEN};

/// Texts of no more bytes are better left to the library when they come alone.
pub(super) const SHORT: usize = 192;

/// Bytes in a block of ChaCha20, and in a vector.
const BLOCK_LEN: usize = 64;

cpufeatures::new!(features, "avx512f", "avx512bw", "avx512ifma");

/// Proves that this CPU, and the operating system, have what this backend needs: only detection makes one.
#[derive(Clone, Copy)]
struct Cpu(());

impl Cpu {
    fn detect() -> Option<Self> {
        features::get().then_some(Self(()))
    }
}

/// Whether keys can be made here.
pub(super) fn is_available() -> bool {
    Cpu::detect().is_some()
}

/// A key for trains without associated data.
pub(super) struct Key {
    words: Zeroizing<[u32; 8]>,
    cpu: Cpu,
}

/// Packets of one length, back to back: each a header, the text, and the tag.
pub(super) struct Group<'a> {
    pub(super) packets: &'a mut [u8],
    /// Bytes of a packet, of which `packets` are a multiple.
    pub(super) stride: usize,
    pub(super) header: usize,
}

impl Key {
    /// `None` if this CPU cannot.
    pub(super) fn new(key: &[u8; KEY_LEN]) -> Option<Self> {
        let cpu = Cpu::detect()?;
        let mut words = Zeroizing::new([0; 8]);
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Some(Self { words, cpu })
    }

    /// Seals up to sixteen packets, packet `i` with `counters[i]`.
    pub(super) fn seal_group(&self, counters: &[u64], group: Group<'_>) {
        let Cpu(()) = self.cpu;
        // SAFETY: a `Cpu` exists, so the features are there.
        unsafe { train::seal(&self.words, counters, group) }
    }

    /// Opens up to sixteen packets, packet `i` with `counters[i]`, says in `opened` which are authentic and wipes the
    /// texts of the others.
    pub(super) fn open_group(&self, counters: &[u64], group: Group<'_>, opened: &mut [bool]) {
        let Cpu(()) = self.cpu;
        // SAFETY: a `Cpu` exists, so the features are there.
        unsafe { train::open(&self.words, counters, group, opened) }
    }

    /// Seals a text on its own.
    pub(super) fn seal(&self, counter: u64, text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        let Cpu(()) = self.cpu;
        // SAFETY: a `Cpu` exists, so the features are there.
        unsafe { lone::seal(&self.words, counter, text, tag) }
    }

    /// Opens a text on its own, or wipes it.
    pub(super) fn open(&self, counter: u64, text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), Rejected> {
        let Cpu(()) = self.cpu;
        // SAFETY: a `Cpu` exists, so the features are there.
        unsafe { lone::open(&self.words, counter, text, tag) }
    }
}
