//! Poly1305 (RFC 8439, section 2.5) in eight lanes of 64 bits, by the 52-bit multiply-add of AVX-512 IFMA.
//!
//! A number modulo p = 2^130 - 5 is three limbs of 44, 44 and 42 bits: l0 + l1 2^44 + l2 2^88. `vpmadd52` multiplies the
//! low 52 bits of two factors and adds the low or the high 52 bits of their product to a 64-bit accumulator.
//!
//! Of limb i times limb j, the low part belongs to limb i + j, and the high part, 2^52 times that, is 2^8 times what belongs
//! to limb i + j + 1. Past limb 2 there is 2^132 = 4 2^130, congruent to 20, so limb 3 is 20 times limb 0. The high part of
//! limb 2 has the weight 2^140 = 2^10 2^130, congruent to 5 2^10.
//!
//! # Bounds
//!
//! *Carried* limbs, which [`Product::carry`] makes, are as good as those, but limb 1 may exceed 44 bits by little; nor is the
//! number below p. Multipliers are r, which is clamped, and its powers, which are carried: 20 times their limbs stays within
//! 52 bits.
//!
//! Multiplied are *loose* blocks, of 52, 52 and 41 bits, and sums of carried limbs and a *tight* block, of 44, 44 and 41
//! bits. At most four products are summed up before they are carried: the low accumulators stay below 2^55.6, the high ones
//! below 2^48.8, and what is carried below 2^59. `bounds.rs` computes this, and does not compile if something comes to exceed
//! its bits.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::BLOCK_LEN;
use super::memory::load_window;
use super::transpose::long_words;
use crate::ct;

const LIMB_44: i64 = (1 << 44) - 1;
const LIMB_42: i64 = (1 << 42) - 1;
/// The bit above a block's 128, in limb 2.
const HIGH_BIT: i64 = 1 << (128 - 88);
/// The bits of r that a one-time key may set (RFC 8439, section 2.5), in its low and its high word.
const CLAMP: [i64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];
/// Bytes in a block of Poly1305.
const SHORT_BLOCK_LEN: usize = 16;

/// A number modulo p in each lane.
#[derive(Clone, Copy)]
pub(super) struct Limbs([__m512i; 3]);

impl Limbs {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn zero() -> Self {
        Self([_mm512_setzero_si512(); 3])
    }

    /// A 128-bit number, tight.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn tight(low: __m512i, high: __m512i) -> Self {
        let middle = or(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
        Self([and(low, splat(LIMB_44)), and(middle, splat(LIMB_44)), _mm512_srli_epi64::<24>(high)])
    }

    /// A whole block, with its high bit, tight.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn tight_block([low, high]: [__m512i; 2]) -> Self {
        Self::tight(low, high).with_high_bit(splat(HIGH_BIT))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn with_high_bit(self, high_bit: __m512i) -> Self {
        let Self([l0, l1, l2]) = self;
        Self([l0, l1, or(l2, high_bit)])
    }

    /// A whole block, with its high bit, cut at bits 52 and 96 instead of 44 and 88: then `vpmadd52`, which ignores the bits
    /// above 52, does most of the cutting. Limbs 1 and 2 have eight zeros below to keep their weights.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn loose_block([low, high]: [__m512i; 2]) -> Self {
        let aligned = splat(!0xff);
        let middle = or(and(_mm512_srli_epi64::<44>(low), aligned), _mm512_slli_epi64::<20>(high));
        let top = or(and(_mm512_srli_epi64::<24>(high), aligned), splat(HIGH_BIT));
        Self([low, middle, top])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn plus(self, other: Self) -> Self {
        let (Self([a0, a1, a2]), Self([b0, b1, b2])) = (self, other);
        Self([add(a0, b0), add(a1, b1), add(a2, b2)])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn times(self, by: &Multiplier) -> Self {
        let mut product = Product::zero();
        product.accumulate(self, by);
        product.carry()
    }

    /// `other` in the lanes of `mask`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn select(self, mask: u8, other: Self) -> Self {
        let (Self([a0, a1, a2]), Self([b0, b1, b2])) = (self, other);
        Self([
            _mm512_mask_blend_epi64(mask, a0, b0),
            _mm512_mask_blend_epi64(mask, a1, b1),
            _mm512_mask_blend_epi64(mask, a2, b2),
        ])
    }

    /// What is in lane 0, in each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn first_lane(self) -> Self {
        Self(self.0.map(|limb| _mm512_broadcastq_epi64(_mm512_castsi512_si128(limb))))
    }

    /// The number itself in canonical form, of carried limbs, as the low and high half of its lowest 128 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn canonical(self) -> [__m512i; 2] {
        let Self([l0, l1, l2]) = self;
        // Once around suffices: only if limb 1 overflows can limb 2, only if limb 2 does can limb 0, and then limb 1, from
        // which 2^44 was taken, has room for one more.
        let (l1, l2) = (and(l1, splat(LIMB_44)), add(l2, _mm512_srli_epi64::<44>(l1)));
        let (l2, l0) = (and(l2, splat(LIMB_42)), add(l0, times_5(_mm512_srli_epi64::<42>(l2))));
        let (l0, l1) = (and(l0, splat(LIMB_44)), add(l1, _mm512_srli_epi64::<44>(l0)));

        // n >= p just if n + 5 >= 2^130, and then n - p = n + 5 - 2^130.
        let m0 = add(l0, splat(5));
        let m1 = add(l1, _mm512_srli_epi64::<44>(m0));
        let m2 = add(l2, _mm512_srli_epi64::<44>(m1));
        let exceeds = _mm512_cmpgt_epi64_mask(m2, splat(LIMB_42));
        let l0 = _mm512_mask_blend_epi64(exceeds, l0, and(m0, splat(LIMB_44)));
        let l1 = _mm512_mask_blend_epi64(exceeds, l1, and(m1, splat(LIMB_44)));
        let l2 = _mm512_mask_blend_epi64(exceeds, l2, m2);

        let low = or(l0, _mm512_slli_epi64::<44>(l1));
        let high = or(_mm512_srli_epi64::<20>(l1), _mm512_slli_epi64::<24>(l2));
        [low, high]
    }
}

/// A carried number to multiply by, with what [`Product::accumulate`] needs of it.
#[derive(Clone, Copy)]
pub(super) struct Multiplier {
    r: [__m512i; 3],
    /// 20 times limbs 1 and 2.
    r_20: [__m512i; 2],
}

impl Multiplier {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn new(Limbs(r): Limbs) -> Self {
        let times_20 = |limb| _mm512_madd52lo_epu64(_mm512_setzero_si512(), limb, splat(20));
        Self { r, r_20: [times_20(r[1]), times_20(r[2])] }
    }
}

impl Zeroize for Multiplier {
    fn zeroize(&mut self) {
        self.r.zeroize();
        self.r_20.zeroize();
    }
}

/// A sum of products that has not been carried: low and high parts of each limb.
struct Product {
    low: [__m512i; 3],
    high: [__m512i; 3],
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn zero() -> Self {
        Self { low: [_mm512_setzero_si512(); 3], high: [_mm512_setzero_si512(); 3] }
    }

    /// Adds `m` times `by`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn accumulate(&mut self, Limbs(m): Limbs, by: &Multiplier) {
        let Multiplier { r, r_20: [r1_20, r2_20] } = *by;
        self.term(0, m[2], r1_20);
        self.term(1, m[2], r2_20);
        self.term(2, m[2], r[0]);
        self.term(0, m[0], r[0]);
        self.term(1, m[0], r[1]);
        self.term(2, m[0], r[2]);
        self.term(0, m[1], r2_20);
        self.term(1, m[1], r[0]);
        self.term(2, m[1], r[1]);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn term(&mut self, limb: usize, m: __m512i, r: __m512i) {
        self.low[limb] = _mm512_madd52lo_epu64(self.low[limb], m, r);
        self.high[limb] = _mm512_madd52hi_epu64(self.high[limb], m, r);
    }

    /// Once around all limbs: leaves them carried.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn carry(self) -> Limbs {
        let ([l0, l1, l2], [h0, h1, h2]) = (self.low, self.high);
        let l1 = add(l1, add(_mm512_slli_epi64::<8>(h0), _mm512_srli_epi64::<44>(l0)));
        let l2 = add(l2, add(_mm512_slli_epi64::<8>(h1), _mm512_srli_epi64::<44>(l1)));
        let above = add(_mm512_slli_epi64::<10>(h2), _mm512_srli_epi64::<42>(l2));
        let l0 = add(and(l0, splat(LIMB_44)), times_5(above));
        let l1 = add(and(l1, splat(LIMB_44)), _mm512_srli_epi64::<44>(l0));
        Limbs([and(l0, splat(LIMB_44)), l1, and(l2, splat(LIMB_42))])
    }
}

/// What becomes of a one-time key (RFC 8439, section 2.6) in each lane, as 64-bit words.
pub(super) struct OneTimeKeys {
    /// Not yet clamped.
    pub(super) r: [__m512i; 2],
    pub(super) s: [__m512i; 2],
}

impl OneTimeKeys {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn clamped_r(&self) -> Limbs {
        Limbs::tight(and(self.r[0], splat(CLAMP[0])), and(self.r[1], splat(CLAMP[1])))
    }
}

/// The tags of lanes 0 to 3, and of 4 to 7, as they are in memory.
pub(super) type Tags = [__m512i; 2];

/// Lanes that hold a packet each, and absorb four blocks of each packet at a time:
/// h' = (h + b0) r^4 + b1 r^3 + b2 r^2 + b3 r.
pub(super) struct PacketLanes {
    /// r^4, r^3, r^2, r.
    powers: [Multiplier; 4],
    s: [__m512i; 2],
}

impl PacketLanes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn new(keys: &OneTimeKeys) -> Self {
        let r = keys.clamped_r();
        let r_1 = Multiplier::new(r);
        let square = r.times(&r_1);
        let r_2 = Multiplier::new(square);
        let powers = [Multiplier::new(square.times(&r_2)), Multiplier::new(square.times(&r_1)), r_2, r_1];
        Self { powers, s: keys.s }
    }

    /// Begins to absorb 64 bytes of each lane's packet, lane `i`'s in `rows[i]`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn begin(&self, rows: [__m512i; 8]) -> FourBlocks<'_> {
        let [a, b, c, d, e, f, g, i] = long_words(rows);
        let blocks = [[a, b], [c, d], [e, f], [g, i]];
        FourBlocks { blocks, powers: &self.powers, product: Product::zero() }
    }

    /// Absorbs 64 bytes of each lane's packet in one go.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn absorb(&self, h: Limbs, rows: [__m512i; 8]) -> Limbs {
        let mut four = self.begin(rows);
        for i in 1..4 {
            four.take(i);
        }
        four.finish(h)
    }

    /// Takes what is left of texts of `text_len` bytes, fewer than 64, zero-padded in `rows`, and the block of the lengths
    /// (RFC 8439, section 2.8). Returns the tags.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn finish(&self, h: Limbs, rows: [__m512i; 8], text_len: usize) -> Tags {
        let zero = _mm512_setzero_si512();
        let [a, b, c, d, e, f, g, i] = long_words(rows);
        let mut blocks = [[a, b], [c, d], [e, f], [g, i], [zero; 2]];
        let last = (text_len % BLOCK_LEN).div_ceil(SHORT_BLOCK_LEN);
        blocks[last] = [zero, splat(text_len as i64)];
        let mut h = h;
        for up_to_four in blocks[..=last].chunks(4) {
            h = self.absorb_blocks(h, up_to_four);
        }
        tags(h, self.s)
    }

    /// Absorbs one to four blocks of each lane's packet.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn absorb_blocks(&self, h: Limbs, blocks: &[[__m512i; 2]]) -> Limbs {
        // What waits for h comes last.
        let [first, others @ ..] = blocks else { return h };
        let [power, powers @ ..] = &self.powers[4 - blocks.len()..] else { return h };
        let mut product = Product::zero();
        for (block, power) in others.iter().zip(powers) {
            product.accumulate(Limbs::loose_block(*block), power);
        }
        product.accumulate(h.plus(Limbs::tight_block(*first)), power);
        product.carry()
    }
}

/// 64 bytes of each lane's packet, partly absorbed.
pub(super) struct FourBlocks<'a> {
    blocks: [[__m512i; 2]; 4],
    powers: &'a [Multiplier; 4],
    product: Product,
}

impl FourBlocks<'_> {
    /// Takes block `i`, but not 0: that is added to h, for which one may have to wait, and so comes last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn take(&mut self, i: usize) {
        self.product.accumulate(Limbs::loose_block(self.blocks[i]), &self.powers[i]);
    }

    /// Takes block 0, and returns the new h.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn finish(mut self, h: Limbs) -> Limbs {
        self.product.accumulate(h.plus(Limbs::tight_block(self.blocks[0])), &self.powers[0]);
        self.product.carry()
    }
}

impl Drop for PacketLanes {
    fn drop(&mut self) {
        self.powers.zeroize();
        self.s.zeroize();
    }
}

/// Lanes that hold consecutive blocks of one packet, sixteen at a time in two vectors.
///
/// The blocks end where the packet's last one does, that of its lengths; what is missing to a multiple of sixteen comes
/// before the first, and is zero without a high bit. All sixteen but the last are multiplied by r^16, or r^8; the last by
/// r^16, r^15, …, r, so that the lanes only have to be added up.
pub(super) struct BlockLanes {
    /// r^16, r^8.
    powers: [Multiplier; 2],
    /// r^16 to r^9, r^8 to r.
    last_powers: [Multiplier; 2],
    s: [__m512i; 2],
}

/// Bytes that [`BlockLanes`] takes at a time.
const SIXTEEN_BLOCKS: usize = 16 * SHORT_BLOCK_LEN;

impl BlockLanes {
    /// `block` is the packet's block number 0, which begins with the one-time key (RFC 8439, section 2.6).
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn new(block: __m512i) -> Self {
        let word = |i| _mm512_permutexvar_epi64(splat(i), block);
        let keys = OneTimeKeys { r: [word(0), word(1)], s: [word(2), word(3)] };
        let r = keys.clamped_r();
        let square = r.times(&Multiplier::new(r));
        // The powers in the order of the blocks' lanes, which is 0, 4, 1, 5, 2, 6, 3, 7: first r^4, r^4, r^3, r^3, r^2,
        // r^2, r, r, then every second one by r^4.
        let cube_up = r.select(0b0000_0011, square).times(&Multiplier::new(square));
        let low = r.select(0b0011_0000, square).select(0b0000_1111, cube_up);
        let eight = low.select(0b0101_0101, low.times(&Multiplier::new(cube_up.first_lane())));
        let r_8 = Multiplier::new(eight.first_lane());
        let sixteen = eight.times(&r_8);
        Self {
            powers: [Multiplier::new(sixteen.first_lane()), r_8],
            last_powers: [Multiplier::new(sixteen), Multiplier::new(eight)],
            s: keys.s,
        }
    }

    /// The tag of a packet, in the first 16 bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn tag(&self, text: &[u8]) -> __m512i {
        let len = text.len().next_multiple_of(SHORT_BLOCK_LEN) + SHORT_BLOCK_LEN;
        let missing = len.next_multiple_of(SIXTEEN_BLOCKS) - len;
        let times = len.div_ceil(SIXTEEN_BLOCKS);
        let mut h = Limbs::zero();
        let mut start = -missing.cast_signed();
        for time in 1..=times {
            let mut rows =
                [start, start + 64, start + 128, start + 192].map(|start| load_window(text, start));
            let mut by = &self.powers;
            if time == times {
                rows[3] = _mm512_mask_mov_epi64(rows[3], 0b1000_0000, splat(text.len() as i64));
                by = &self.last_powers;
            }
            let missing = if time == 1 { missing / SHORT_BLOCK_LEN } else { 0 };
            let mut product = Product::zero();
            product.accumulate(h.plus(blocks(rows[0], rows[1], missing as i64)), &by[0]);
            product.accumulate(blocks(rows[2], rows[3], missing as i64 - 8), &by[1]);
            h = product.carry();
            start += SIXTEEN_BLOCKS.cast_signed();
        }
        let sum = Product { low: h.0.map(|limb| sum_of_lanes(limb)), high: Limbs::zero().0 }.carry();
        tags(sum, self.s)[0]
    }
}

impl Drop for BlockLanes {
    fn drop(&mut self) {
        self.powers.zeroize();
        self.last_powers.zeroize();
        self.s.zeroize();
    }
}

/// Eight consecutive blocks in the order 0, 4, 1, 5, 2, 6, 3, 7, of which the first `missing` are none.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn blocks(first_four: __m512i, second_four: __m512i, missing: i64) -> Limbs {
    let there = _mm512_cmpge_epi64_mask(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), splat(missing));
    let low = _mm512_unpacklo_epi64(first_four, second_four);
    let high = _mm512_unpackhi_epi64(first_four, second_four);
    Limbs::tight(low, high).with_high_bit(_mm512_maskz_mov_epi64(there, splat(HIGH_BIT)))
}

/// The sum of all lanes, in each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn sum_of_lanes(x: __m512i) -> __m512i {
    let x = add(x, _mm512_shuffle_i64x2::<0b01_00_11_10>(x, x));
    let x = add(x, _mm512_shuffle_i64x2::<0b10_11_00_01>(x, x));
    add(x, _mm512_shuffle_epi32::<0b01_00_11_10>(x))
}

/// h + s modulo 2^128.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn tags(h: Limbs, s: [__m512i; 2]) -> Tags {
    let [h_low, h_high] = h.canonical();
    let low = add(h_low, s[0]);
    let carried = _mm512_cmplt_epu64_mask(low, s[0]);
    let high = add(h_high, s[1]);
    let high = _mm512_mask_add_epi64(high, carried, high, splat(1));
    let lanes = |first| {
        _mm512_setr_epi64(
            first,
            first + 8,
            first + 1,
            first + 9,
            first + 2,
            first + 10,
            first + 3,
            first + 11,
        )
    };
    [_mm512_permutex2var_epi64(low, lanes(0), high), _mm512_permutex2var_epi64(low, lanes(4), high)]
}

/// Which of four tags are equal, in time that does not tell where they differ.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn equal(these: __m512i, those: __m512i) -> [bool; 4] {
    let halves = _mm512_cmpeq_epi64_mask(these, those);
    [0, 1, 2, 3].map(|tag| ct::declassify(halves >> (2 * tag) & 0b11 == 0b11))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn times_5(x: __m512i) -> __m512i {
    add(x, _mm512_slli_epi64::<2>(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn splat(x: i64) -> __m512i {
    _mm512_set1_epi64(x)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn add(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi64(x, y)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn and(x: __m512i, y: __m512i) -> __m512i {
    _mm512_and_si512(x, y)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn or(x: __m512i, y: __m512i) -> __m512i {
    _mm512_or_si512(x, y)
}
