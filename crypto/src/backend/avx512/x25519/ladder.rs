//! The Montgomery ladder (RFC 7748, section 5), a scalar and a point a lane.
//!
//! It keeps two points (x2 : z2) and (x3 : z3), not as such but as the sums and differences of their coordinates, which is
//! what a step begins with. A step doubles one of the two, which depends on a bit of the scalar, and adds them up. For the
//! sum it does not matter which is which, but for the sign of a number that is squared: so nothing is swapped, only chosen.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::field::Number;

/// (486662 - 2) / 4 of RFC 7748.
const A_24: u32 = 121_665;

/// The u-coordinates of scalar times point, as 64-bit words in canonical form. The scalars have to be clamped.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
pub(super) fn multiply(scalars: &[__m512i; 4], points: [__m512i; 4]) -> [__m512i; 4] {
    let u = Number::from_words(points);
    let one = Number::small(1);
    let mut state = State {
        sum_2: one,
        difference_2: one,
        sum_3: u.wide().plus(&one.wide()).carry(),
        difference_3: u.wide().minus(&one.wide()).carry(),
    };
    // Bit i tells whether bits i and i + 1 of the scalar differ: whether the points have changed their places.
    let mut changes = *scalars;
    for (i, change) in changes.iter_mut().enumerate() {
        let next = scalars.get(i + 1).copied().unwrap_or(_mm512_setzero_si512());
        let shifted = _mm512_or_si512(_mm512_srli_epi64::<1>(*change), _mm512_slli_epi64::<63>(next));
        *change = _mm512_xor_si512(*change, shifted);
    }
    // Bit 255 of a clamped scalar is zero, and so is bit 0, after which the points would have to change places again.
    for bit in (0..255).rev() {
        let change =
            _mm512_test_epi64_mask(changes[bit / 64], _mm512_set1_epi64((1_u64 << (bit % 64)).cast_signed()));
        state.step(change, &u);
    }
    let words = state.quotient().to_words();
    changes.zeroize();
    state.zeroize();
    words
}

struct State {
    sum_2: Number,
    difference_2: Number,
    sum_3: Number,
    difference_3: Number,
}

impl State {
    /// Names are RFC 7748's. `u` is the difference of the two points.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    fn step(&mut self, change: u8, u: &Number) {
        let a = self.sum_2.select(change, &self.sum_3);
        let b = self.difference_2.select(change, &self.difference_3);
        let da = self.difference_3.times(&self.sum_2);
        let cb = self.sum_3.times(&self.difference_2);
        let aa = a.square();
        let bb = b.square();
        let e = aa.minus(&bb).carry();
        let x3 = da.plus(&cb).carry().square();
        let z3 = da.minus(&cb).carry().square().carry().times(u);
        let x2 = aa.carry().times(&bb.carry());
        let z2 = aa.plus_product(&e, A_24).carry().times(&e);
        self.sum_2 = x2.plus(&z2).carry();
        self.difference_2 = x2.minus(&z2).carry();
        self.sum_3 = x3.plus(&z3).carry();
        self.difference_3 = x3.minus(&z3).carry();
    }

    /// x2 / z2, and 0 if z2 is 0.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
    fn quotient(&self) -> Number {
        let (sum, difference) = (self.sum_2.wide(), self.difference_2.wide());
        let (x2_twice, z2_twice) = (sum.plus(&difference).carry(), sum.minus(&difference).carry());
        x2_twice.times(&z2_twice.inverse()).carry()
    }
}

impl Zeroize for State {
    fn zeroize(&mut self) {
        let Self { sum_2, difference_2, sum_3, difference_3 } = self;
        [sum_2, difference_2, sum_3, difference_3].into_iter().for_each(Number::zeroize);
    }
}
