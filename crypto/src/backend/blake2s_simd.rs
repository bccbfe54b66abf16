//! BLAKE2s by `blake2s_simd`.

use core::mem::MaybeUninit;

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
