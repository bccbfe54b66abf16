//! Poly1305 (RFC 8439, section 2.5) by 64-bit multiplications, of several packets in turn: while one waits for its product,
//! the processor computes the others'.
//!
//! A number modulo p = 2^130 - 5 is limbs of 64, 64 and a few bits: l0 + l1 2^64 + l2 2^128. Past limb 2, 2^130 is congruent
//! to 5; and since r's limb 1 is a multiple of 4, 2^128 times it is 2^130 times a quarter of it, congruent to 5/4 of it.

use zeroize::Zeroize;

/// Bytes in a block of Poly1305.
const SHORT_BLOCK_LEN: usize = 16;
/// The bits of r that a one-time key may set.
const CLAMP: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;

/// What becomes of a one-time key (RFC 8439, section 2.6).
pub(super) struct OneTimeKey {
    r: [u64; 2],
    /// 5/4 of r's limb 1.
    r1_5: u64,
    s: u128,
}

impl OneTimeKey {
    /// `r` need not be clamped yet.
    #[inline]
    pub(super) fn new(r: u128, s: u128) -> Self {
        let r = halves(r & CLAMP);
        Self { r, r1_5: r[1] + (r[1] >> 2), s }
    }
}

impl Drop for OneTimeKey {
    fn drop(&mut self) {
        self.r.zeroize();
        self.r1_5.zeroize();
        self.s.zeroize();
    }
}

/// The tags of ciphertexts of one length, without associated data (RFC 8439, section 2.8).
#[inline(always)]
pub(super) fn tags<const N: usize>(keys: &[OneTimeKey; N], texts: [&[u8]; N]) -> [u128; N] {
    let len = texts[0].len();
    let blocks = texts.map(|text| text.as_chunks::<SHORT_BLOCK_LEN>().0);
    let mut h = [Accumulator::default(); N];
    #[expect(clippy::needless_range_loop, reason = "the same block of every text")]
    for block in 0..len / SHORT_BLOCK_LEN {
        for i in 0..N {
            h[i].absorb(&keys[i], u128::from_le_bytes(blocks[i][block]));
        }
    }
    if !len.is_multiple_of(SHORT_BLOCK_LEN) {
        for i in 0..N {
            h[i].absorb(&keys[i], rest(texts[i]));
        }
    }
    let mut tags = [0; N];
    for i in 0..N {
        // There is no associated data, so its length is zero.
        h[i].absorb(&keys[i], (len as u128) << 64);
        tags[i] = h[i].canonical().wrapping_add(keys[i].s);
    }
    tags
}

/// The bytes after the last whole block, of which there are some, zero-padded.
fn rest(text: &[u8]) -> u128 {
    let len = text.len() % SHORT_BLOCK_LEN;
    match text.last_chunk() {
        Some(last) => u128::from_le_bytes(*last) >> (128 - 8 * len),
        None => text.iter().rev().fold(0, |number, &byte| number << 8 | u128::from(byte)),
    }
}

/// A number modulo p, below 2^130 + 2^64: limbs 0 and 1, and limb 2, which is 4 at most.
#[derive(Clone, Copy, Default)]
struct Accumulator {
    low: u128,
    high: u64,
}

impl Accumulator {
    /// Becomes h' = (h + block + 2^128) r.
    ///
    /// Nothing overflows: r's limbs are below 2^60, 5/4 of them below 2^60.4, and limb 2 of the sum is 6 at most. So the
    /// columns stay below 2^126, what they leave above 2^128 below 2^63.4, and 5/4 of that below 2^63.8.
    #[inline(always)]
    fn absorb(&mut self, key: &OneTimeKey, block: u128) {
        let (low, carry) = self.low.overflowing_add(block);
        let [h0, h1] = halves(low);
        let h2 = self.high + 1 + u64::from(carry);

        let OneTimeKey { r: [r0, r1], r1_5, .. } = *key;
        let column_0 = product(h0, r0) + product(h1, r1_5);
        let column_1 = product(h0, r1) + product(h1, r0) + u128::from(h2 * r1_5) + (column_0 >> 64);
        let column_2 = h2 * r0 + (column_1 >> 64) as u64;

        let low = column_1 << 64 | u128::from(column_0 as u64);
        // 2^130 times a number, a quarter of what its limb 2 is, comes to 5 times that.
        let above = (column_2 & !3) + (column_2 >> 2);
        let (low, carry) = low.overflowing_add(u128::from(above));
        *self = Self { low, high: (column_2 & 3) + u64::from(carry) };
    }

    /// The lowest 128 bits of the number in canonical form.
    #[inline(always)]
    fn canonical(self) -> u128 {
        // n >= p just if n + 5 >= 2^130, and then n - p = n + 5 - 2^130.
        let (less_p, carry) = self.low.overflowing_add(5);
        let exceeds = u128::from((self.high + u64::from(carry)) >> 2).wrapping_neg();
        self.low & !exceeds | less_p & exceeds
    }
}

#[inline(always)]
fn product(x: u64, y: u64) -> u128 {
    u128::from(x) * u128::from(y)
}

#[inline(always)]
fn halves(x: u128) -> [u64; 2] {
    [x as u64, (x >> 64) as u64]
}
