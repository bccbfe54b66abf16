//! BLAKE2s by `blake2s_simd`.

use core::mem::MaybeUninit;

use blake2s_simd::many::{HashManyJob, hash_many};
use blake2s_simd::{Params, State};
use zeroize::Zeroize;

/// The `LEN`-byte BLAKE2s of the concatenated `parts`, keyed unless `key` is empty.
///
/// Panics if `key` is longer than 32 bytes.
pub(crate) fn blake2s<'a, const LEN: usize>(
    key: &[u8],
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> [u8; LEN] {
    // The state buffers the key or the HMAC pad and does not wipe itself; a `MaybeUninit` can be wiped
    // whatever it holds.
    let mut slot = MaybeUninit::uninit();
    let state: &mut State = slot.write(Params::new().hash_length(LEN).key(key).to_state());
    for part in parts {
        state.update(part);
    }
    let digest = state.finalize();
    slot.zeroize();
    digest.as_bytes().try_into().expect("the digest has the length asked for")
}

/// The 16-byte BLAKE2s of each message, keyed with the key in its place, in the lanes of vectors.
///
/// Panics if a key is longer than 32 bytes.
pub(crate) fn macs<const N: usize>(keys: [&[u8]; N], messages: [&[u8]; N]) -> [[u8; 16]; N] {
    let mut params = Params::new();
    params.hash_length(16);
    let mut number = 0;
    let mut slot = MaybeUninit::uninit();
    let jobs: &mut [HashManyJob<'_>; N] = slot.write(messages.map(|message| {
        params.key(keys[number]);
        number += 1;
        HashManyJob::new(&params, message)
    }));
    hash_many(jobs.iter_mut());
    let macs = jobs
        .each_ref()
        .map(|job| job.to_hash().as_bytes().try_into().expect("the digest has the length asked for"));
    slot.zeroize();
    macs
}
