//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose nonce is long enough to be random: it encrypts the
//! cookie in a cookie reply (whitepaper, section 5.4.7).

use crate::{KEY_LEN, Rejected, TAG_LEN, backend};

/// Bytes in a nonce.
pub const NONCE_LEN: usize = 24;

/// Encrypts the text in `buf`, which is all but its last [`TAG_LEN`] bytes, and writes the tag into those.
///
/// A `nonce` must never seal twice under one key; 24 random bytes never will. What is derived from `key` is
/// wiped.
///
/// # Panics
/// If `buf` has no room for the tag: a bug of the caller, who made the buffer.
pub fn seal(key: &[u8; KEY_LEN], nonce: &[u8; NONCE_LEN], aad: &[u8], buf: &mut [u8]) {
    let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().expect("a buffer to seal has room for the tag");
    *tag = backend::xaead_seal(key, nonce, aad, text);
}

/// Decrypts `buf`, a ciphertext and its tag, in place and returns the plaintext. What is derived from `key`
/// is wiped.
///
/// # Errors
/// [`Rejected`] if `buf` was not sealed with this key, nonce and `aad`, or is too short to hold a tag. No
/// plaintext is left in `buf` then: all before the tag is zero.
pub fn open<'a>(
    key: &[u8; KEY_LEN],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buf: &'a mut [u8],
) -> Result<&'a mut [u8], Rejected> {
    let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().ok_or(Rejected)?;
    match backend::xaead_open(key, nonce, aad, text, tag) {
        Ok(()) => Ok(text),
        Err(Rejected) => {
            text.fill(0);
            Err(Rejected)
        }
    }
}
