//! X25519 (RFC 7748) in eight lanes: as many scalars times as many points.

mod field;
mod ladder;

use core::arch::x86_64::*;

use zeroize::{Zeroize, Zeroizing};

use super::memory::{load, store};
use crate::x25519::ZeroShared;
use crate::{KEY_LEN, Secret, ct};

/// Multiplications at once. They cost the same whether there is something to do in a lane or not.
pub(in crate::backend) const LANES: usize = 8;

/// The shared secret of each lane's private and public key. Private keys have to be clamped.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
pub(super) fn shared(
    private_keys: [&[u8; KEY_LEN]; LANES],
    public_keys: [&[u8; KEY_LEN]; LANES],
) -> [Result<Secret<KEY_LEN>, ZeroShared>; LANES] {
    let mut scalars = gather(private_keys);
    let mut products = ladder::multiply(&scalars, gather(public_keys));
    scalars.zeroize();
    let mut results = [const { Secret::zero() }; LANES];
    scatter(products, &mut results);
    products.zeroize();
    results.map(|shared| if ct::declassify(shared.is_zero()) { Err(ZeroShared) } else { Ok(shared) })
}

/// Word `i` of each row, in vector `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn gather(rows: [&[u8; KEY_LEN]; LANES]) -> [__m512i; 4] {
    let mut words = Zeroizing::new([[0; 64]; 4]);
    for (lane, row) in rows.into_iter().enumerate() {
        for (words, word) in words.iter_mut().zip(row.as_chunks::<8>().0) {
            words.as_chunks_mut().0[lane] = *word;
        }
    }
    let [w0, w1, w2, w3] = &*words;
    [load(w0), load(w1), load(w2), load(w3)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn scatter(vectors: [__m512i; 4], rows: &mut [Secret<KEY_LEN>; LANES]) {
    let mut words = Zeroizing::new([[0; 64]; 4]);
    for (words, vector) in words.iter_mut().zip(vectors) {
        store(words, vector);
    }
    for (lane, row) in rows.iter_mut().enumerate() {
        for (words, word) in words.iter().zip(row.expose_mut().as_chunks_mut::<8>().0) {
            *word = words.as_chunks().0[lane];
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "plain code calls what needs CPU features")]
mod tests;
