//! Arithmetic modulo p = 2^255 - 19 in eight lanes of 64 bits, by the 52-bit multiply-add of AVX-512 IFMA.
//!
//! A number is five limbs of 51 bits: l0 + l1 2^51 + … + l4 2^204. `vpmadd52` multiplies the low 52 bits of two factors and
//! adds the low or the high 52 bits of their product to a 64-bit accumulator.
//!
//! Of limb i times limb j, the low part belongs to column i + j, and the high part, 2^52 times that, is twice what belongs to
//! column i + j + 1: high parts are summed up first, the sums doubled, and low parts added to them. Column k + 5 has the
//! weight of column k times 2^255, congruent to 19.
//!
//! # Bounds
//!
//! *Reduced* limbs, of which a [`Number`] is made, are below 2^51 + 2^16. [`Wide`] limbs, sums of products, are below 2^63.
//!
//! - A product of two reduced limbs is below 2^102.1: its high part below 2^50.1, its low part below 2^52.
//! - A column has at most five of either: less than 5 2^52 + 2 5 2^50.1 < 2^55. In [`Number::square`] it is the same sum.
//! - Folded, a limb is below 2^55 + 19 2^55 < 2^59.4. This is what products and squares are, here called *folded*.
//! - [`Wide::plus`] and [`Wide::minus`] take folded limbs. A sum stays below 2^60.4. What `minus` adds, a multiple of p, has
//!   limbs between 2^59.99 and 2^60, more than is subtracted; a difference is below 2^60.8.
//! - [`Wide::carry`] takes any limb below 2^62: what leaves a limb is below 2^11, and limb 0 gets 19 times that, less than
//!   2^15.3. So every result is reduced.

use core::arch::x86_64::*;

use zeroize::Zeroize;

const LIMB: i64 = (1 << 51) - 1;
/// 2^9 p in limbs.
const MULTIPLE_OF_P: [i64; 5] = [(LIMB - 18) << 9, LIMB << 9, LIMB << 9, LIMB << 9, LIMB << 9];

/// A number modulo p in each lane, reduced.
#[derive(Clone, Copy)]
pub(super) struct Number(pub(super) [__m512i; 5]);

/// Five limbs that have yet to be carried.
#[derive(Clone, Copy)]
pub(super) struct Wide(pub(super) [__m512i; 5]);

impl Number {
    /// The same small number in each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn small(number: u16) -> Self {
        let zero = _mm512_setzero_si512();
        Self([splat(number.into()), zero, zero, zero, zero])
    }

    /// The numbers whose 64-bit words these are, but for their bits 255. They may be p or more.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn from_words([w0, w1, w2, w3]: [__m512i; 4]) -> Self {
        let limb = splat(LIMB);
        Self([
            and(w0, limb),
            and(or(_mm512_srli_epi64::<51>(w0), _mm512_slli_epi64::<13>(w1)), limb),
            and(or(_mm512_srli_epi64::<38>(w1), _mm512_slli_epi64::<26>(w2)), limb),
            and(or(_mm512_srli_epi64::<25>(w2), _mm512_slli_epi64::<39>(w3)), limb),
            and(_mm512_srli_epi64::<12>(w3), limb),
        ])
    }

    /// The words of the numbers in canonical form: below p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn to_words(self) -> [__m512i; 4] {
        let limb = splat(LIMB);
        // The number n is below 2^255 + 2^221, so n >= p just if n + 19 >= 2^255, and then n - p = n + 19 - 2^255.
        let [lower @ .., top] = self.0;
        let mut carry = splat(19);
        for l in lower {
            carry = _mm512_srli_epi64::<51>(add(l, carry));
        }
        let exceeds = _mm512_cmpgt_epi64_mask(add(top, carry), limb);
        let mut carry = _mm512_maskz_mov_epi64(exceeds, splat(19));
        let [l0, l1, l2, l3, l4] = self.0.map(|l| {
            let l = add(l, carry);
            carry = _mm512_srli_epi64::<51>(l);
            and(l, limb)
        });
        [
            or(l0, _mm512_slli_epi64::<51>(l1)),
            or(_mm512_srli_epi64::<13>(l1), _mm512_slli_epi64::<38>(l2)),
            or(_mm512_srli_epi64::<26>(l2), _mm512_slli_epi64::<25>(l3)),
            or(_mm512_srli_epi64::<39>(l3), _mm512_slli_epi64::<12>(l4)),
        ]
    }

    /// `other` in the lanes of `mask`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn select(&self, mask: u8, other: &Self) -> Self {
        let mut selected = self.0;
        for (limb, other) in selected.iter_mut().zip(other.0) {
            *limb = _mm512_mask_blend_epi64(mask, *limb, other);
        }
        Self(selected)
    }

    /// As it is: folded, by the bounds above.
    pub(super) fn wide(&self) -> Wide {
        Wide(self.0)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn times(&self, by: &Self) -> Wide {
        let (Self(a), Self(b)) = (self, by);
        let mut columns = [_mm512_setzero_si512(); 10];
        for i in 0..5 {
            for j in 0..5 {
                columns[i + j + 1] = _mm512_madd52hi_epu64(columns[i + j + 1], a[i], b[j]);
            }
        }
        for column in &mut columns[1..] {
            *column = add(*column, *column);
        }
        for i in 0..5 {
            for j in 0..5 {
                columns[i + j] = _mm512_madd52lo_epu64(columns[i + j], a[i], b[j]);
            }
        }
        fold(columns)
    }

    /// Every product of different limbs is there twice: once is enough before the columns are doubled.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn square(&self) -> Wide {
        let Self(a) = self;
        let mut columns = [_mm512_setzero_si512(); 10];
        for i in 0..5 {
            for j in i + 1..5 {
                columns[i + j + 1] = _mm512_madd52hi_epu64(columns[i + j + 1], a[i], a[j]);
            }
        }
        for column in &mut columns[2..9] {
            *column = add(*column, *column);
        }
        for i in 0..5 {
            columns[2 * i + 1] = _mm512_madd52hi_epu64(columns[2 * i + 1], a[i], a[i]);
            for j in i + 1..5 {
                columns[i + j] = _mm512_madd52lo_epu64(columns[i + j], a[i], a[j]);
            }
        }
        for column in &mut columns[1..] {
            *column = add(*column, *column);
        }
        for i in 0..5 {
            columns[2 * i] = _mm512_madd52lo_epu64(columns[2 * i], a[i], a[i]);
        }
        fold(columns)
    }

    /// 2^`times`-th power.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    fn squared(&self, times: usize) -> Self {
        let mut number = *self;
        for _ in 0..times {
            number = number.square().carry();
        }
        number
    }

    /// n^(p - 2), which is 1 / n, and 0 for 0 (RFC 7748, section 5).
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn inverse(&self) -> Self {
        // Names are exponents; `ones_k` is 2^k - 1.
        let n1 = *self;
        let n2 = n1.squared(1);
        let n9 = n2.squared(2).times(&n1).carry();
        let n11 = n9.times(&n2).carry();
        let ones_5 = n11.squared(1).times(&n9).carry();
        let ones_10 = ones_5.squared(5).times(&ones_5).carry();
        let ones_20 = ones_10.squared(10).times(&ones_10).carry();
        let ones_40 = ones_20.squared(20).times(&ones_20).carry();
        let ones_50 = ones_40.squared(10).times(&ones_10).carry();
        let ones_100 = ones_50.squared(50).times(&ones_50).carry();
        let ones_200 = ones_100.squared(100).times(&ones_100).carry();
        let ones_250 = ones_200.squared(50).times(&ones_50).carry();
        // 2^255 - 32 + 11.
        ones_250.squared(5).times(&n11).carry()
    }
}

impl Wide {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut sum = self.0;
        for (limb, other) in sum.iter_mut().zip(other.0) {
            *limb = add(*limb, other);
        }
        Self(sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut difference = self.0;
        for ((limb, other), p) in difference.iter_mut().zip(other.0).zip(MULTIPLE_OF_P) {
            *limb = _mm512_sub_epi64(add(*limb, splat(p)), other);
        }
        Self(difference)
    }

    /// `self`, which has to be reduced or folded, plus `number` times `by`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn plus_product(&self, number: &Number, by: u32) -> Self {
        let by = splat(by.into());
        let mut highs = [_mm512_setzero_si512(); 5];
        for (i, l) in number.0.into_iter().enumerate() {
            highs[(i + 1) % 5] = _mm512_madd52hi_epu64(highs[(i + 1) % 5], l, by);
        }
        // The high part of limb 4 has the weight 2^256, congruent to 38.
        highs[0] = _mm512_madd52lo_epu64(_mm512_setzero_si512(), highs[0], splat(19));
        let mut sum = self.0;
        for ((limb, l), high) in sum.iter_mut().zip(number.0).zip(highs) {
            *limb = _mm512_madd52lo_epu64(add(*limb, add(high, high)), l, by);
        }
        Self(sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    pub(super) fn carry(self) -> Number {
        let limb = splat(LIMB);
        let carries = self.0.map(|l| _mm512_srli_epi64::<51>(l));
        let [l0, l1, l2, l3, l4] = self.0.map(|l| and(l, limb));
        Number([
            _mm512_madd52lo_epu64(l0, carries[4], splat(19)),
            add(l1, carries[0]),
            add(l2, carries[1]),
            add(l3, carries[2]),
            add(l4, carries[3]),
        ])
    }
}

impl Zeroize for Number {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// Column k + 5 counts 19 times in limb k.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn fold(columns: [__m512i; 10]) -> Wide {
    let [low @ .., h0, h1, h2, h3, h4] = columns;
    let mut limbs: [__m512i; 5] = low;
    for (limb, high) in limbs.iter_mut().zip([h0, h1, h2, h3, h4]) {
        *limb = add(*limb, times_19(high));
    }
    Wide(limbs)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn times_19(x: __m512i) -> __m512i {
    _mm512_mullo_epi64(x, splat(19))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn splat(x: i64) -> __m512i {
    _mm512_set1_epi64(x)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn add(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi64(x, y)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn and(x: __m512i, y: __m512i) -> __m512i {
    _mm512_and_si512(x, y)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn or(x: __m512i, y: __m512i) -> __m512i {
    _mm512_or_si512(x, y)
}
