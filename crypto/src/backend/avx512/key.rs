//! The way in: plain code calls what needs CPU features, having proved that they are there.

use zeroize::Zeroizing;

use super::x25519::{self, LANES};
use super::{lone, train};
use crate::backend::Group;
use crate::x25519::ZeroShared;
use crate::{KEY_LEN, Rejected, Secret, TAG_LEN};

cpufeatures::new!(features, "avx512f", "avx512dq", "avx512bw", "avx512ifma");

/// Whether this CPU, and the operating system, have what this backend needs.
pub(in crate::backend) fn is_available() -> bool {
    features::get()
}

/// Proves that they do: only detection makes one.
struct Detected(());

/// The shared secret of each lane's private and public key. Private keys have to be clamped.
///
/// Panics if this CPU cannot.
pub(in crate::backend) fn shared(
    private_keys: [&[u8; KEY_LEN]; LANES],
    public_keys: [&[u8; KEY_LEN]; LANES],
) -> [Result<Secret<KEY_LEN>, ZeroShared>; LANES] {
    assert!(is_available(), "this CPU has AVX-512 and IFMA");
    // SAFETY: the features were detected.
    unsafe { x25519::shared(private_keys, public_keys) }
}

/// A ChaCha20-Poly1305 key.
pub(in crate::backend) struct Key {
    words: Zeroizing<[u32; 8]>,
    _features: Detected,
}

impl Key {
    /// `None` if this CPU cannot.
    pub(in crate::backend) fn new(key: &[u8; KEY_LEN]) -> Option<Self> {
        let detected = is_available().then_some(Detected(()))?;
        let mut words = Zeroizing::new([0; 8]);
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Some(Self { words, _features: detected })
    }

    /// Seals up to [`super::MAX_GROUP`] packets, packet `i` with `counters[i]`.
    pub(in crate::backend) fn seal_group(&self, counters: &[u64], group: Group<'_>) {
        // SAFETY: a key exists only where the features were detected.
        unsafe { train::seal(&self.words, counters, group) }
    }

    /// Opens up to [`super::MAX_GROUP`] packets, packet `i` with `counters[i]`, says in `opened` which are authentic and
    /// wipes the texts of the others.
    pub(in crate::backend) fn open_group(&self, counters: &[u64], group: Group<'_>, opened: &mut [bool]) {
        // SAFETY: a key exists only where the features were detected.
        unsafe { train::open(&self.words, counters, group, opened) }
    }

    /// Seals a text on its own.
    pub(in crate::backend) fn seal(&self, counter: u64, text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        // SAFETY: a key exists only where the features were detected.
        unsafe { lone::seal(&self.words, counter, text, tag) }
    }

    /// Opens a text on its own, or wipes it.
    pub(in crate::backend) fn open(
        &self,
        counter: u64,
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Rejected> {
        // SAFETY: a key exists only where the features were detected.
        unsafe { lone::open(&self.words, counter, text, tag) }
    }
}
