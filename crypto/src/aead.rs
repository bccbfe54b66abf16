//! ChaCha20-Poly1305 (RFC 8439) as WireGuard uses it: the nonce is 32 zero bits followed by a 64-bit
//! little-endian counter (whitepaper, sections 5.4.2, 5.4.3 and 5.4.6).
//!
//! Everything happens in place. The unit of the data path is a *train*: packets of equal size back to back in
//! one buffer, the last one perhaps shorter, each `header` bytes that are left alone, then text, then
//! [`TAG_LEN`] bytes of tag. Transport packets authenticate no associated data, so trains take none.

use core::fmt;

use crate::{Backend, KEY_LEN, Rejected, Secret, TAG_LEN, backend, preferred_backend};

/// A ChaCha20-Poly1305 key, set up once and wiped on drop. May be shared between threads, which seal and open
/// at once.
pub struct Key(backend::AeadKey);

impl Key {
    /// Sets the key up, for [`preferred_backend`]; the caller's copy is the caller's to wipe. Allocates, so not for the
    /// packet path.
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Self::with_backend(key, preferred_backend())
    }

    /// [`Key::new`] for a backend of the caller's choice: tests and benchmarks compare them.
    ///
    /// # Panics
    /// If `backend` is none of [`Backend::available`].
    #[must_use]
    pub fn with_backend(key: &[u8; KEY_LEN], backend: Backend) -> Self {
        Self(backend::AeadKey::new(key, backend))
    }
}

impl From<&Secret<KEY_LEN>> for Key {
    fn from(key: &Secret<KEY_LEN>) -> Self {
        Self::new(key.expose())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("aead::Key(..)")
    }
}

/// Encrypts the text in `buf`, which is all but its last [`TAG_LEN`] bytes, and writes the tag into those.
///
/// A `counter` must never seal twice under one key.
///
/// # Panics
/// If `buf` has no room for the tag: a bug of the caller, who made the buffer.
pub fn seal(key: &Key, counter: u64, aad: &[u8], buf: &mut [u8]) {
    let (text, tag) = buf.split_last_chunk_mut().expect("a buffer to seal has room for the tag");
    key.0.seal(counter, aad, text, tag);
}

/// Decrypts `buf`, a ciphertext and its tag, in place and returns the plaintext.
///
/// # Errors
/// [`Rejected`] if `buf` was not sealed with this key, `counter` and `aad`, or is too short to hold a tag. No
/// plaintext is left in `buf` then: all before the tag is zero.
pub fn open<'a>(key: &Key, counter: u64, aad: &[u8], buf: &'a mut [u8]) -> Result<&'a mut [u8], Rejected> {
    let (text, tag) = buf.split_last_chunk_mut().ok_or(Rejected)?;
    key.0.open(counter, aad, text, tag).map(|()| text)
}

/// Seals every packet of a train, the first with counter `first_counter`, each next one with the next
/// counter.
///
/// `stride` is the bytes from one packet to the next, `header` those at each one's start that are left as
/// they are.
///
/// # Panics
/// If a packet has no room for its header and tag, if `stride` is 0, or if the counters would pass
/// `u64::MAX`: bugs of the caller. Then no packet has been sealed.
pub fn seal_train(key: &Key, first_counter: u64, train: &mut [u8], stride: usize, header: usize) {
    let Some(last) = train.len().div_ceil(stride).checked_sub(1) else { return };
    let shortest = train.len() - last * stride;
    assert!(shortest >= header + TAG_LEN, "every packet of a train has room for its header and tag");
    assert!(first_counter.checked_add(last as u64).is_some(), "the counters of a train do not wrap");
    key.0.seal_train(first_counter, train, stride, header);
}

/// Opens every packet of a train in place, packet `i` with `counters[i]`, and sets `opened[i]` to whether it
/// is authentic.
///
/// `stride` and `header` are as for [`seal_train`], but a packet too short for its header and tag is merely
/// not authentic, for its length came from the network. A rejected packet is left as [`open`] leaves it.
///
/// # Panics
/// If `counters` or `opened` has not exactly one entry for each packet, or `stride` is 0: bugs of the caller.
pub fn open_train(
    key: &Key,
    counters: &[u64],
    train: &mut [u8],
    stride: usize,
    header: usize,
    opened: &mut [bool],
) {
    let packets = train.len().div_ceil(stride);
    assert!(
        counters.len() == packets && opened.len() == packets,
        "one counter and one verdict for each packet"
    );
    key.0.open_train(counters, train, stride, header, opened);
}
