//! The way in: plain code calls what needs CPU features, having proved that they are there.

use zeroize::Zeroizing;

use super::train;
use crate::KEY_LEN;
use crate::backend::Group;

// Every processor with the one has the other; it is for multiplications that leave the flags alone.
cpufeatures::new!(features, "avx2", "bmi2");

/// Whether this CPU, and the operating system, have what this backend needs.
pub(in crate::backend) fn is_available() -> bool {
    features::get()
}

/// Proves that they do: only detection makes one.
struct Detected(());

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
}
