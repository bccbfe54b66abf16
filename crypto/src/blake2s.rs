//! BLAKE2s (RFC 7693) and what WireGuard builds of it (whitepaper, section 5.4): `HASH`, the keyed `MAC`,
//! `HMAC` (RFC 2104) and the key derivation functions `KDF1`, `KDF2` and `KDF3`, which are HKDF (RFC 5869)
//! with the chaining key for salt and no info.
//!
//! Inputs are slices of parts, hashed as if concatenated, so that no caller assembles secrets in a buffer of
//! its own. States that have absorbed a key are wiped here.

use core::iter::once;

use zeroize::Zeroize;

use crate::{KEY_LEN, Secret, backend};

const BLOCK_LEN: usize = 64;

/// `HASH`: the 32-byte BLAKE2s of the concatenated `parts`.
#[must_use]
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    backend::blake2s(&[], parts.iter().copied())
}

/// `MAC`: the 16-byte keyed BLAKE2s of the concatenated `parts`. It is not a truncation of the 32-byte one.
///
/// # Panics
/// If `key` is longer than 32 bytes: a bug of the caller.
#[must_use]
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    backend::blake2s(key, parts.iter().copied())
}

/// `MAC` of each message with the key in its place. Several take hardly longer than one.
///
/// # Panics
/// If a key is longer than 32 bytes: a bug of the caller.
#[must_use]
pub fn macs<const N: usize>(keys: [&[u8]; N], messages: [&[u8]; N]) -> [[u8; 16]; N] {
    backend::macs(keys, messages)
}

/// `HMAC`-BLAKE2s of the concatenated `parts`.
#[must_use]
pub fn hmac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> [u8; 32] {
    const { assert!(KEY_LEN <= BLOCK_LEN, "a longer key would have to be hashed first") };
    let mut pad = [0; BLOCK_LEN];
    pad[..KEY_LEN].copy_from_slice(key);

    pad.iter_mut().for_each(|byte| *byte ^= 0x36);
    let mut inner: [u8; 32] = backend::blake2s(&[], once(&pad[..]).chain(parts.iter().copied()));
    pad.iter_mut().for_each(|byte| *byte ^= 0x36 ^ 0x5c);
    let outer = backend::blake2s(&[], [&pad[..], &inner]);

    pad.zeroize();
    inner.zeroize();
    outer
}

/// `KDF1`: the next chaining key.
#[must_use]
pub fn kdf1(chaining_key: &[u8; KEY_LEN], input: &[u8]) -> Secret<KEY_LEN> {
    expand(&extract(chaining_key, input), &[], 1)
}

/// `KDF2`: two independent keys.
#[must_use]
pub fn kdf2(chaining_key: &[u8; KEY_LEN], input: &[u8]) -> (Secret<KEY_LEN>, Secret<KEY_LEN>) {
    let pseudorandom_key = extract(chaining_key, input);
    let t1 = expand(&pseudorandom_key, &[], 1);
    let t2 = expand(&pseudorandom_key, t1.expose(), 2);
    (t1, t2)
}

/// `KDF3`: three independent keys.
#[must_use]
pub fn kdf3(
    chaining_key: &[u8; KEY_LEN],
    input: &[u8],
) -> (Secret<KEY_LEN>, Secret<KEY_LEN>, Secret<KEY_LEN>) {
    let pseudorandom_key = extract(chaining_key, input);
    let t1 = expand(&pseudorandom_key, &[], 1);
    let t2 = expand(&pseudorandom_key, t1.expose(), 2);
    let t3 = expand(&pseudorandom_key, t2.expose(), 3);
    (t1, t2, t3)
}

/// HKDF-Extract: `τ₀` of the whitepaper.
fn extract(chaining_key: &[u8; KEY_LEN], input: &[u8]) -> Secret<KEY_LEN> {
    Secret::new(hmac(chaining_key, &[input]))
}

/// One step of HKDF-Expand: `τᵢ` of the whitepaper, from `τᵢ₋₁`.
fn expand(pseudorandom_key: &Secret<KEY_LEN>, previous: &[u8], i: u8) -> Secret<KEY_LEN> {
    Secret::new(hmac(pseudorandom_key.expose(), &[previous, &[i]]))
}
