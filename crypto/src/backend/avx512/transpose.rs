//! Transpositions: what lies in one lane of many vectors comes to lie in one vector.

use core::arch::x86_64::*;

/// Lane `i` of each of sixteen words, in vector `i`: words of many blocks become blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn blocks(words: [__m512i; 16]) -> [__m512i; 16] {
    // Within each quarter: words 4g to 4g + 3 of lane 4q + i are quarter q of vector i of group g.
    let group = |g: usize| {
        let [w, x, y, z] = [words[4 * g], words[4 * g + 1], words[4 * g + 2], words[4 * g + 3]];
        let (wx_01, wx_23) = (_mm512_unpacklo_epi32(w, x), _mm512_unpackhi_epi32(w, x));
        let (yz_01, yz_23) = (_mm512_unpacklo_epi32(y, z), _mm512_unpackhi_epi32(y, z));
        [
            _mm512_unpacklo_epi64(wx_01, yz_01),
            _mm512_unpackhi_epi64(wx_01, yz_01),
            _mm512_unpacklo_epi64(wx_23, yz_23),
            _mm512_unpackhi_epi64(wx_23, yz_23),
        ]
    };
    let (g0, g1, g2, g3) = (group(0), group(1), group(2), group(3));
    // Then the quarters themselves: what was quarter q of vector i becomes block 4q + i.
    let every_fourth = |i: usize| quarters([g0[i], g1[i], g2[i], g3[i]]);
    let ([b0, b4, b8, b12], [b1, b5, b9, b13]) = (every_fourth(0), every_fourth(1));
    let ([b2, b6, b10, b14], [b3, b7, b11, b15]) = (every_fourth(2), every_fourth(3));
    [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15]
}

/// 64-bit word `i` of each of eight rows, in vector `i`: bytes of many packets become words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn long_words(rows: [__m512i; 8]) -> [__m512i; 8] {
    // Of each pair of rows the even words, and the odd ones.
    let pair = |i: usize| {
        let (row, next) = (rows[2 * i], rows[2 * i + 1]);
        (_mm512_unpacklo_epi64(row, next), _mm512_unpackhi_epi64(row, next))
    };
    let ((even_0, odd_0), (even_1, odd_1)) = (pair(0), pair(1));
    let ((even_2, odd_2), (even_3, odd_3)) = (pair(2), pair(3));
    let [w0, w2, w4, w6] = quarters([even_0, even_1, even_2, even_3]);
    let [w1, w3, w5, w7] = quarters([odd_0, odd_1, odd_2, odd_3]);
    [w0, w1, w2, w3, w4, w5, w6, w7]
}

/// Quarter `i`, 128 bits, of each row, in vector `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    const FIRST_TWO: i32 = 0b01_00_01_00;
    const LAST_TWO: i32 = 0b11_10_11_10;
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let (ab_01, cd_01) = (_mm512_shuffle_i64x2::<FIRST_TWO>(a, b), _mm512_shuffle_i64x2::<FIRST_TWO>(c, d));
    let (ab_23, cd_23) = (_mm512_shuffle_i64x2::<LAST_TWO>(a, b), _mm512_shuffle_i64x2::<LAST_TWO>(c, d));
    [
        _mm512_shuffle_i64x2::<EVEN>(ab_01, cd_01),
        _mm512_shuffle_i64x2::<ODD>(ab_01, cd_01),
        _mm512_shuffle_i64x2::<EVEN>(ab_23, cd_23),
        _mm512_shuffle_i64x2::<ODD>(ab_23, cd_23),
    ]
}
