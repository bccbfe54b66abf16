//! The wide loop with AVX2, which compilers do not find by themselves: 32 bytes in about 1.3 cycles.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_loadu_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_srli_epi64, _mm256_storeu_si256,
};

/// Bytes in a register.
const STEP: usize = 32;

/// Whether this processor has AVX2, and there are enough bytes to repay the start: more than in a header.
#[inline]
pub(super) fn is_worth_it(len: usize) -> bool {
    len >= 2 * STEP && std::arch::is_x86_feature_detected!("avx2")
}

/// The lower and upper halves of 64-bit words, added up apart so that no carry is lost for 2³² steps.
struct Lanes {
    low: __m256i,
    high: __m256i,
}

impl Lanes {
    #[target_feature(enable = "avx2")]
    fn new() -> Self {
        Self { low: _mm256_setzero_si256(), high: _mm256_setzero_si256() }
    }

    #[target_feature(enable = "avx2")]
    fn add(&mut self, words: __m256i) {
        let low_half = _mm256_set1_epi64x(0xffff_ffff);
        self.low = _mm256_add_epi64(self.low, _mm256_and_si256(words, low_half));
        self.high = _mm256_add_epi64(self.high, _mm256_srli_epi64::<32>(words));
    }

    #[target_feature(enable = "avx2")]
    fn total(&self) -> u64 {
        let mut bytes = [0; STEP];
        store(&mut bytes, _mm256_add_epi64(self.low, self.high));
        bytes.as_chunks::<8>().0.iter().map(|lane| u64::from_ne_bytes(*lane)).sum()
    }
}

/// The unreduced sum of whole steps.
#[target_feature(enable = "avx2")]
pub(super) fn sum_steps(steps: &[[u8; STEP]]) -> u64 {
    // Two sets of lanes, so that an addition need not wait for the one before.
    let (pairs, last) = steps.as_chunks::<2>();
    let (mut even, mut odd) = (Lanes::new(), Lanes::new());
    for [first, second] in pairs {
        even.add(load(first));
        odd.add(load(second));
    }
    for step in last {
        even.add(load(step));
    }
    even.total() + odd.total()
}

/// Copies whole steps, as many as both have, and returns the unreduced sum.
#[target_feature(enable = "avx2")]
pub(super) fn copy_and_sum_steps(from: &[[u8; STEP]], to: &mut [[u8; STEP]]) -> u64 {
    let (pairs, last) = from.as_chunks::<2>();
    let (to_pairs, to_last) = to.as_chunks_mut::<2>();
    let (mut even, mut odd) = (Lanes::new(), Lanes::new());
    for ([first, second], [to_first, to_second]) in pairs.iter().zip(to_pairs) {
        let (first, second) = (load(first), load(second));
        store(to_first, first);
        store(to_second, second);
        even.add(first);
        odd.add(second);
    }
    for (step, to_step) in last.iter().zip(to_last) {
        let step = load(step);
        store(to_step, step);
        even.add(step);
    }
    even.total() + odd.total()
}

#[target_feature(enable = "avx2")]
fn load(step: &[u8; STEP]) -> __m256i {
    // SAFETY: an unaligned load of the 32 bytes that the reference covers.
    unsafe { _mm256_loadu_si256(step.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn store(step: &mut [u8; STEP], words: __m256i) {
    // SAFETY: an unaligned store to the 32 bytes that the reference covers.
    unsafe { _mm256_storeu_si256(step.as_mut_ptr().cast(), words) }
}
