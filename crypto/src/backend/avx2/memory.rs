//! Loads and stores. All of this backend's `unsafe` is here, but for the one way in; everything takes slices or arrays.

use core::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};

#[inline]
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: reads the 32 bytes that `bytes` is, of any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn store(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: writes the 32 bytes that `bytes` is, of any alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}
